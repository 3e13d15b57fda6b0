"""The findings of a worker: their ids, and their way to the receiver."""
