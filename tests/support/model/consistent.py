"""Invariants that hold of every image at all times."""

from __future__ import annotations

from dnstrail.image import Bounds, Image


def assert_consistent(image: Image, bounds: Bounds | None = None) -> None:
    """Assert that every root holds one place, and that the places are bounded."""
    roots = image.roots()
    assert len(roots) == len(set(roots))
    assert bounds is None or len(roots) <= bounds.size
    assert all(count >= 0 for count in image.counters.values()), image.counters
    assert image.forgotten is None or image.now is not None
