"""The core's values as messages, and back: for whatever crosses a border, a socket or a disk."""
