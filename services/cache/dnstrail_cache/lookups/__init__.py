"""Lookups: the requests, those that wait, and their answers."""
