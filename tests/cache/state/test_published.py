"""The number of events that probes published: the bound of what a worker can have missed."""

from __future__ import annotations

from dnstrail.events import DNS_ANSWER_CONFLICT, LOSS_REASONS, NET_PACKET_DNS, NET_TCP_CONNECT, SCHED_PROCESS_EXEC
from dnstrail.protocol.batches import TURN, Turn
from dnstrail_cache.state.published import Published


def turn(number: int, start: str = "s", published: dict[str, int] | None = None, **last: int) -> Turn:
    """Return the end of a turn."""
    return Turn(start, number, last, live=True, now=0, published=published)


def most(*turns: tuple[Turn, Turn | None]) -> dict[str, int]:
    """Return the bounds above 0 after some turns, each with the one before."""
    published = Published()
    for now, earlier in turns:
        published.note(now, earlier)
    return {name: count for name, count in published.most_missed.items() if count and name not in LOSS_REASONS}


def test_a_start_counts_from_its_begin():
    """The first turn that is heard states everything that its probe has published, and later ones what they add."""
    first, second = turn(4, published={NET_PACKET_DNS: 7}), turn(6, published={NET_PACKET_DNS: 9, NET_TCP_CONNECT: 1})
    assert most((first, None)) == {NET_PACKET_DNS: 7, DNS_ANSWER_CONFLICT: 7, TURN: 5}
    expected = {NET_PACKET_DNS: 9, DNS_ANSWER_CONFLICT: 9, NET_TCP_CONNECT: 1, TURN: 7}
    assert most((first, None), (second, first)) == expected


def test_starts_are_added_up():
    """The events of all starts count, also of those that have ended."""
    one, other = turn(0, "a", {SCHED_PROCESS_EXEC: 2}), turn(0, "b", {SCHED_PROCESS_EXEC: 3})
    assert most((one, None), (other, None)) == {SCHED_PROCESS_EXEC: 5, TURN: 2}


def test_a_probe_that_does_not_count_has_batches():
    """Where a probe states no numbers of events, its batches count, as at a subscriber that misses them."""
    assert most((turn(0, sched_process_exec=4), None)) == {SCHED_PROCESS_EXEC: 5, TURN: 1}


def test_odd_turns_never_lower_a_bound():
    """A turn that is older, counts less or names no event of ours changes nothing, and costs no memory."""
    now, odd = turn(5, published={NET_PACKET_DNS: 7}), turn(2, published={NET_PACKET_DNS: 3, "x": 1})
    assert most((now, None), (odd, now)) == most((now, None))


def test_reasons_are_bounded_by_all_events():
    """What signatures and findings lose is bounded by the events of all names; a few are believed without any event."""
    published = Published()
    published.note(turn(0, published={NET_PACKET_DNS: 2, NET_TCP_CONNECT: 1}), None)
    assert {published.most_missed[reason] for reason in LOSS_REASONS} == {(3 + 1) * 1024}
