"""Lookups of a past time: the answers that may matter are read from disk into an empty image, which is asked."""
