"""The signatures of the fleet: they read the rows of all hosts."""
