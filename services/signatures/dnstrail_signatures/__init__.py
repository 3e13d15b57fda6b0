"""The signature worker: runs detection code over events, and gives it access to lookups."""
