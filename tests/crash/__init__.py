"""Daemons that are killed, and what must be true after that."""
