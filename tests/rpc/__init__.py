"""Tests of `swarmd.rpc`: every RPC against a real server in this process."""
