"""Trails: the ranked paths from questions to a key, with their evidence (docs/inside/image.md)."""
