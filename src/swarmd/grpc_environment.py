"""What gRPC reads from the environment when it is imported: every module that imports it first imports this one."""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # children are started while there are channels
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # a daemon that is not there is told once, by us
