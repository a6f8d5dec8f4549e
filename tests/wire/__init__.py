"""Tests of `swarmd.wire`: messages as the core's values."""
