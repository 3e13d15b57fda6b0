"""A past lookup finds on disk what the image found then."""

from __future__ import annotations

from random import Random

import pytest

from builders.past import Played, play_generated, ranked
from dnstrail.history import segment as segments
from dnstrail.history import sums
from dnstrail.image import Bounds
from dnstrail_history.past import contents
from dnstrail_history.store import store as module


@pytest.fixture
def small_segments(monkeypatch):
    """Make a segment full after some transactions."""
    for one in (segments, module):
        monkeypatch.setattr(one, "MOST_TRANSACTIONS", 150)


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("seed", range(2))
def test_the_past_answers_as_the_present_did(tmp_path, seed):
    """Lookups and trails, of clients by process, container and address, have the same results: none differs."""
    played = Played(tmp_path / "history", Bounds())
    play_generated(played, Random(seed), 120)
    assert played.differences() == []
    assert len([one for one in played.asked if one.found]) > 50
    assert sum(len(one.connections) for one in played.listed) > 50
    assert played.evicting == 0


@pytest.mark.usefixtures("small_segments")
def test_the_past_knows_what_the_present_had_evicted(tmp_path):
    """Where an image that evicted much answered otherwise, the history answers as if nothing had been evicted."""
    played = Played(tmp_path / "history", Bounds(size=5))
    play_generated(played, Random(3), 120)
    assert played.differences() == []
    assert played.evicting > 20


@pytest.mark.usefixtures("small_segments")
def test_of_answers_that_were_given_often_the_last_ones_are_read(tmp_path, monkeypatch):
    """Where the others are read as a sum, lookups find the same, and trails have the same order and states."""
    for one in (contents, sums):
        monkeypatch.setattr(one, "ROWS", 20)
    monkeypatch.setattr(contents, "_FEW", 17)
    played = Played(tmp_path / "history", Bounds())
    play_generated(played, Random(4), 350, every=20)
    assert played.differences(ranked) == []
