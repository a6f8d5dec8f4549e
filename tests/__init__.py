"""The tests, mirroring src/swarmd."""
