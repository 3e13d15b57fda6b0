"""The events that a worker receives: which it subscribes to, and how many of them arrived."""
