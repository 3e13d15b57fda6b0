"""The protocol on the bus: batches, turns, lookups, and the losses of each hop."""
