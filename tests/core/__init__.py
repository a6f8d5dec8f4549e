"""The core: by example, by table, and side by side with a naive model."""
