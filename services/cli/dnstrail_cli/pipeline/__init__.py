"""The commands that run probe, cache and signatures together."""
