"""Tests of `swarmd.host`: swarms as the daemon hosts them, without gRPC."""
