"""The end of a probe: its subscribers confirm the last turn."""

from __future__ import annotations

import pytest

from dnstrail.bus.ipc import events_address
from dnstrail.protocol.batches import TURN, Turn
from dnstrail.protocol.listener import CONFIRMS, MOST_CONFIRMED, Listener, confirmed
from live.workers import Messages, open_bus, short_folder, wait_until


def end_of(start: str, *, ended: bool = True) -> Turn:
    """Return the last turn of a probe start."""
    return Turn(start, 7, {}, live=True, now=0, ended=ended)


@pytest.fixture
def messages() -> Messages:
    """Return a subscriber that holds its subscriptions."""
    return Messages()


def test_a_publisher_waits_for_all_that_confirm():
    """A start is confirmed once every subscriber that confirms has its last turn; others are not waited for."""
    with short_folder() as folder, open_bus() as bus:
        publisher = bus.publisher(events_address(folder), lossless=False)
        assert confirmed(publisher, "s")
        one, other, plain = (bus.subscriber([events_address(folder)], [TURN]) for _ in range(3))
        first, second = Listener(one), Listener(other)
        wait_until(lambda: publisher.subscribers(TURN) == 3 and publisher.subscribers(CONFIRMS) == 2)
        first.turn(end_of("s", ended=False))
        first.turn(end_of("other"))
        first.turn(end_of("s"))
        first.turn(end_of("s"))
        wait_until(lambda: not confirmed(publisher, "other") and not confirmed(publisher, "s"))
        second.turn(end_of("s"))
        wait_until(lambda: confirmed(publisher, "s"))
        assert not confirmed(publisher, "other")
        other.close()
        wait_until(lambda: confirmed(publisher, "other"))
        plain.close()


def test_only_the_last_turn_is_confirmed_and_once(messages):
    """A repeated last turn is confirmed once, and other turns are not."""
    listener = Listener(messages)
    for turn in (end_of("s", ended=False), end_of("s"), end_of("s")):
        listener.turn(turn)
    assert messages.topics == [CONFIRMS, f"{CONFIRMS} s"]


def test_the_confirmations_are_bounded(messages):
    """A confirmation beyond the bound replaces the oldest."""
    listener = Listener(messages)
    for number in range(MOST_CONFIRMED + 3):
        listener.turn(end_of(str(number)))
    assert messages.topics == [CONFIRMS, *[f"{CONFIRMS} {number}" for number in range(3, MOST_CONFIRMED + 3)]]
