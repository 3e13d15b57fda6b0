"""What travels over the bus: batches, turns, lookups, and the losses that each hop counts."""
