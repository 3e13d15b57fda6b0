"""A cache that is behind skips answers of owners beyond their part of the work, and says of which turns they are."""

from __future__ import annotations

import pytest

from builders.talk import OWN, answer, back, query
from dnstrail.captured import Captured, Process
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Image
from dnstrail.image.answer import CGROUP, CLIENT
from dnstrail.image.bounds import SECOND
from dnstrail.image.parties import WORK
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail.protocol.lookups import GetRequest
from dnstrail_cache.feed.feeder import Feeder
from dnstrail_cache.lookups.pending_lookups import is_complete
from dnstrail_cache.losses import MOST_COUNTED, MOST_OWNERS, MOST_TURNS, SkippedTurns, worst_owners
from dnstrail_cache.state.cache_state import CacheState
from live.workers import FakeClock, Messages

NOW = 5000.0  # seconds: the clock of probe and cache at the first turn
FLOODER, OTHER = 11, 22
COSTLY = [f"10.9.{number >> 8}.{number & 255}" for number in range(4000)]  # one answer costs about a tenth of all work
FLOOD = 40
HOST = "web1"


class Stream:
    """A feeder, and what a probe sends to it."""

    def __init__(self) -> None:
        self.clock = FakeClock(wall=NOW)
        self.state = CacheState(Image(), self.clock)
        self.messages = Messages()
        self.feeder = Feeder(self.messages, self.state, lambda _conflict, _batch: None)
        self.turns: dict[str, int] = {}

    def turn(self, *events: Captured, start: str = "s", live: bool = True, ahead: float = 0) -> tuple[str, int]:
        """Send a turn at the present time; return its mark."""
        number = self.turns[start] = self.turns.get(start, -1) + 1
        sequence, now = number - 1, round((self.clock.wall() + ahead) * SECOND)
        if number:
            batch = Batch(start, number, sequence, events, None, HOST)
            self.messages.waiting.append((NET_PACKET_DNS, encode(batch)))
        last = {NET_PACKET_DNS: sequence} if number else {}
        self.messages.waiting.append((TURN, encode(Turn(start, number, last, live, now, host=HOST))))
        return start, number

    def drain(self) -> None:
        """Apply all that waits."""
        while self.feeder.drain():
            pass

    @property
    def skipped(self) -> int:
        """The number of skipped answers."""
        return self.state.image.counters["skipped_behind"]


@pytest.fixture
def stream():
    stream = Stream()
    stream.turn()
    stream.drain()
    return stream


def exchanges(cgroup: int, count: int, *addresses: str, at: float = NOW) -> list[Captured]:
    """Return queries of a cgroup, and their answers."""
    stamp, process = round(at * SECOND), Process(cgroup, cgroup_id=cgroup)
    return [
        event
        for number in range(count)
        for event in (
            Captured(stamp, query(f"n{number}.of{cgroup}", id_=number), OWN, process),
            Captured(stamp, answer(*addresses, name=f"n{number}.of{cgroup}", id_=number), back(OWN), process),
        )
    ]


def test_a_flood_is_skipped_while_the_cache_is_behind(stream):
    """Beyond its part an owner is skipped; the others are applied, and the loss is reported."""
    stream.clock.advance(0.2)
    stream.turn(*exchanges(FLOODER, FLOOD, *COSTLY), *exchanges(OTHER, 20))
    stream.drain()
    cost = (FLOOD - stream.skipped) * 16_000
    assert 0 < stream.skipped < FLOOD
    assert cost <= 2 * WORK
    assert all(stream.state.image.get(f"n{number}.of{OTHER}") for number in range(20))


def test_a_cache_that_keeps_up_skips_nothing(stream):
    """Events that are less than a tenth of a second old are all applied."""
    stream.clock.advance(0.09)
    stream.turn(*exchanges(FLOODER, FLOOD, *COSTLY))
    stream.drain()
    assert stream.skipped == 0


def test_old_stamps_alone_do_not_show_that_the_cache_is_behind(stream):
    """A resolver may report late: if nothing waited a moment ago, its answers are applied."""
    stream.clock.advance(10)
    stream.drain()
    stream.turn(*exchanges(FLOODER, FLOOD, *COSTLY))
    stream.drain()
    assert stream.skipped == 0


def test_a_file_is_never_cut(stream):
    """A file beside a live probe is applied whole, however late."""
    stream.turn(start="file", live=False)
    stream.drain()
    stream.clock.advance(5)
    stream.turn(*exchanges(FLOODER, FLOOD, *COSTLY), start="file", live=False)
    stream.drain()
    assert stream.skipped == 0


def test_stamps_ahead_do_not_hide_that_the_cache_is_behind(stream):
    """A host whose stamps are ahead is skipped as well once the events of another host are late."""
    stream.turn(start="ahead", ahead=2)
    stream.drain()
    stream.clock.advance(0.5)
    stream.turn(*exchanges(OTHER, 1))
    stream.turn(*exchanges(FLOODER, FLOOD, *COSTLY, at=NOW + 3), start="ahead", ahead=2)
    stream.drain()
    assert stream.skipped > 0


def test_a_lookup_lacks_the_skipped_answers_of_its_owner(stream):
    """After a turn with skipped answers it is complete only for another owner; after the next turn, for all."""
    stream.clock.advance(0.2)
    mark = stream.turn(*exchanges(FLOODER, FLOOD, *COSTLY), *exchanges(OTHER, 1))
    stream.drain()
    after = stream.turn(*exchanges(OTHER, 1, at=NOW + 0.2))
    stream.drain()

    def complete(*marks, owner=None):
        return is_complete(GetRequest(key="x", after=marks, owner=owner), stream.state.follower, stream.state.skipped)

    assert complete(mark) is complete(after, mark) is complete(mark, owner=(HOST, FLOODER)) is False
    assert complete(mark, owner=(HOST, OTHER)) is complete(after) is complete(after, owner=(HOST, FLOODER)) is True
    assert complete(mark, owner=("web2", FLOODER)) is True


def test_further_owners_of_a_turn_count_as_all():
    """Beyond 64 owners in one turn, the answers of every owner count as skipped."""
    skipped = SkippedTurns()
    for owner in range(MOST_OWNERS + 1):
        assert not skipped.concern(GetRequest(key="x", after=(("s", 1),), owner=("", 4711)))
        skipped.note(("s", 1), ("", CGROUP, owner))
    assert skipped.concern(GetRequest(key="x", after=(("s", 1),), owner=("", 4711)))


def test_skipped_answers_are_counted_by_owner():
    """The worst ten owners are named; beyond 1,024 owners the answers of further ones count together."""
    skipped = SkippedTurns()
    for owner in range(MOST_COUNTED - 2):
        skipped.note(("s", 1), ("", CGROUP, owner))
    for owner in [*[(HOST, CGROUP, 7)] * 5, *[(HOST, CLIENT, 0x0A000042)] * 4]:
        skipped.note(("s", 1), owner)
    for owner in range(MOST_COUNTED, MOST_COUNTED + 3):
        skipped.note(("s", 1), ("", CGROUP, owner))
    worst = worst_owners(skipped.by_owner)
    assert list(worst.items())[:3] == [("cgroup 7 of web1", 5), ("client 10.0.0.66 of web1", 4), ("others", 3)]
    assert len(worst) == 10
    assert skipped.by_owner.total() == MOST_COUNTED - 2 + 5 + 4 + 3


def test_the_oldest_turn_is_forgotten():
    """Beyond 16,384 turns with skipped answers the oldest counts as whole."""
    skipped = SkippedTurns()
    for turn in range(MOST_TURNS + 1):
        skipped.note(("s", turn), ("", CGROUP, 1))
    lacking = [skipped.concern(GetRequest(key="x", after=(("s", turn),))) for turn in (0, 1, MOST_TURNS)]
    assert lacking == [False, True, True]
