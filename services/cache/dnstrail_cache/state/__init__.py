"""The state of the cache, and the file that keeps it."""
