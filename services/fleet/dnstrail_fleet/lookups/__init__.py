"""Lookups of the fleet on the wire."""
