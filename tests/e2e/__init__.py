"""The daemon as a real process, driven from outside."""
