"""Ids of facts are known within a bound."""

from __future__ import annotations

from dnstrail.history import known_ids as module
from dnstrail.history.fact import FactId
from dnstrail.history.known_ids import KnownIds


def test_an_id_is_new_once():
    """An id differs by its start, its batch, its place, and the stage of a connection."""
    known = KnownIds()
    ids = [FactId(start, batch, place) for start in "ab" for batch in (0, 1) for place in (0, 9)]
    assert [known.add(one) for one in ids] == [True] * 8
    assert [known.add(one) for one in ids] == [False] * 8
    assert [known.add(ids[0], stage) for stage in ("opened", "end", "end")] == [True, True, False]


def test_the_batches_are_bounded(monkeypatch):
    """Beyond the bound the batch that was noted first is forgotten."""
    monkeypatch.setattr(module, "MOST_BATCHES", 3)
    known = KnownIds()
    for batch in range(4):
        known.add(FactId("s", batch, 0))
    assert not known.add(FactId("s", 1, 0))
    assert known.add(FactId("s", 0, 0))
