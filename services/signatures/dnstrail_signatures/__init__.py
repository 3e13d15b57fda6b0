"""The signature worker: runs detection code over events, with lookups at hand."""
