"""The journal: what outlives the daemon, and what it does with damage."""
