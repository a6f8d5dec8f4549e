"""The command line.

Modules import what is heavy (grpc, rich, pydantic) inside their commands, so that `--help` is quick.
"""
