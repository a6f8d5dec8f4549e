"""The ways from the daemon to the engines that run tasks: one module an engine, one contract."""
