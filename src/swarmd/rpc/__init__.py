"""The gRPC face: servicers that unpack, call and answer; conversion; errors; the server.

What is decided is decided below, in `host` and `core`.
"""
