"""The protocol on the bus: batches, turns, lookups, and the losses of each hop."""

PROBES, MOST_PROBES = 1024, 4096  # runs (starts) of probes that a worker follows: by default, and at most
