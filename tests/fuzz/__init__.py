"""Random and mutated bytes at the port, as messages of every RPC, and at the validator behind them."""
