"""Which signatures a worker runs: they are found, read, chosen, and get their settings."""
