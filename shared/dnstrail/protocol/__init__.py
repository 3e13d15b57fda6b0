"""The protocol on the bus: batches, turns, lookups, and the losses of each hop."""

#: starts (runs) of probes that a worker follows (`--probes`) -> a start that has ended or vanished gives way; without
#: one the new start is refused: `probes_refused`, `refused_events`
PROBES, MOST_PROBES = 1024, 4096  # by default, and at most
