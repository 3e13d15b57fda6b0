"""The number of runs (starts) of probes that a worker follows."""

PROBES, MOST_PROBES = 1024, 4096  # by default, and at most
