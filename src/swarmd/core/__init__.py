"""The scheduling logic: a state machine without I/O. Events go in, decisions come out.

Nothing here knows asyncio, gRPC, protobuf, threads, files or the clock; numpy is all it needs. Times are numbers that
the caller passes in.
"""
