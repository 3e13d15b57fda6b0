"""The log of the fleet: a contract of four calls, and its engines."""
