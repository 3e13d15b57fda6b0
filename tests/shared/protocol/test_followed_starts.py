"""The starts of probes that a subscriber follows are bounded, and a live one never gives way."""

from __future__ import annotations

from collections import Counter

import pytest
from structlog.testing import capture_logs

from dnstrail.captured import Captured
from dnstrail.image import Bounds
from dnstrail.protocol import PROBES
from dnstrail.protocol.batches import Batch, Turn
from dnstrail.protocol.turn_follower import VANISHED, FollowedStarts

MOST = 4


class Subscriber:
    """A subscriber with room for MOST starts: what it follows, forgets and counts."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.forgotten: list[str] = []
        self.starts = FollowedStarts(MOST, self.forgotten.append, self.counters)
        self.now = 100.0

    def hears(self, *starts: str, ended: bool = False) -> list[bool]:
        """Hear a turn of each of some starts; return whether each is followed."""
        return [self.starts.follow(Turn(start, 0, {}, True, 0, ended, host="web1"), self.now) for start in starts]

    def waits(self, seconds: float, *live: str) -> None:
        """Let time pass in which some starts are heard each second."""
        for _ in range(round(seconds)):
            self.now += 1.0
            self.hears(*live)


@pytest.fixture
def subscriber() -> Subscriber:
    """Return a subscriber that follows as many starts as it may."""
    subscriber = Subscriber()
    assert subscriber.hears("a", "b", "c", "d") == [True] * MOST
    return subscriber


def test_a_live_start_never_gives_way(subscriber: Subscriber) -> None:
    """However many further starts come and for however long, those that are followed stay."""
    for number in range(200):
        subscriber.now += 0.5
        assert subscriber.hears("a", "b", "c", "d", f"s{number}") == [True] * MOST + [False]
    assert subscriber.forgotten == []
    assert subscriber.counters["probes_refused"] == 200


def test_ended_starts_give_way_oldest_first(subscriber: Subscriber) -> None:
    """A start that has ended gives way at once, before one that has vanished."""
    subscriber.waits(2 * VANISHED, "a", "b", "c")
    subscriber.hears("c", "b", ended=True)
    assert subscriber.hears("e", "f", "g", "h") == [True, True, True, False]
    assert subscriber.forgotten == ["c", "b", "d"]


def test_a_host_with_most_starts_makes_room_for_others(subscriber: Subscriber) -> None:
    """A host that holds all places gives up those silent for longest until others have as many, and gets none back."""
    held = [f"evil.{number}" for number in range(MOST)]
    subscriber.hears("a", "b", "c", "d", ended=True)
    subscriber.hears(*held)
    subscriber.forgotten.clear()
    subscriber.hears("evil.0")
    assert subscriber.hears("good.0", "good.1", "good.2") == [True, True, False]
    assert subscriber.hears("evil.1", "evil.2") == [False, False]
    assert subscriber.hears("evil.3", "evil.0", "good.0", "good.1") == [True] * MOST
    assert subscriber.hears("third.0", "third.1", "fourth.0") == [True, False, True]
    assert subscriber.forgotten == ["evil.1", "evil.2", "evil.3", "good.0"]


def test_the_starts_of_an_earlier_run_count_for_their_host() -> None:
    """A host that filled the table before a restart makes room after it, too."""
    subscriber = Subscriber()
    subscriber.starts.resume({f"evil.{number}": False for number in range(MOST)})
    assert subscriber.hears("good.0") == [True]


def test_a_vanished_start_gives_way_after_its_silence(subscriber: Subscriber) -> None:
    """A start that was silent for ten seconds gives way, and not a second earlier."""
    subscriber.waits(VANISHED - 1, "a", "b", "c")
    assert subscriber.hears("e") == [False]
    subscriber.waits(1, "a", "b", "c")
    assert subscriber.hears("e", "f") == [True, False]
    assert subscriber.forgotten == ["d"]


def test_a_host_that_restarts_its_probe_often_never_fills_the_table(subscriber: Subscriber) -> None:
    """Each start that ends makes room for the next one."""
    last = "d"
    for number in range(100):
        subscriber.hears("a", "b", "c", last)
        subscriber.hears(last, ended=True)
        last = f"d{number}"
        assert subscriber.hears(last) == [True]
    assert subscriber.counters == {}


def test_a_subscriber_that_stood_still_takes_nobody_for_vanished(subscriber: Subscriber) -> None:
    """After a standstill of the subscriber itself the first message may be of a new start: the others come later."""
    subscriber.now += 100 * VANISHED
    assert subscriber.hears("e", "a", "b", "c", "d") == [False] + [True] * MOST


def test_a_refused_start_is_named_and_its_events_are_counted(subscriber: Subscriber) -> None:
    """A refused start counts once, its events count each, and the log names a start at most every ten seconds."""
    events = [Captured(number, b"") for number in range(3)]
    with capture_logs() as logs:
        for now in (0.0, 1.0, 11.0):
            subscriber.hears("e", "f")
            assert not subscriber.starts.follow(Batch("e", 1, 0, events, host="web1"), subscriber.now + now)
    assert subscriber.counters == {"probes_refused": 2, "refused_events": 9}
    assert [(entry["event"], entry["start"], entry["host"]) for entry in logs] == [("probe_refused", "e", "web1")] * 2


def test_the_refused_starts_that_are_remembered_are_bounded(subscriber: Subscriber) -> None:
    """A refused start that was forgotten counts again."""
    subscriber.hears(*(f"s{number}" for number in range(MOST + 1)), "s0", "s4")
    assert subscriber.counters["probes_refused"] == MOST + 2


def test_the_starts_of_an_earlier_run_are_followed_within_the_bound() -> None:
    """Those that were not over come first, and one that was over gives way."""
    subscriber = Subscriber()
    kept = subscriber.starts.resume({"over1": True, "over2": True, "a": False, "b": False, "c": False})
    assert kept == ["a", "b", "c", "over1"]
    assert subscriber.hears("d", "e") == [True, False]
    assert subscriber.forgotten == ["over1"]


def test_the_image_tells_as_many_hosts_apart_as_starts_are_followed() -> None:
    """One setting has one default."""
    assert Bounds().probes == PROBES
