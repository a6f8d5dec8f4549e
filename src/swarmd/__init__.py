"""swarmd."""
