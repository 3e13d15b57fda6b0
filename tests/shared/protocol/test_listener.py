"""The end of a probe: its subscribers confirm the last turn."""

from __future__ import annotations

import pytest

from dnstrail.bus.ipc import events_address
from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batches import TURN, Batch, Turn, decode
from dnstrail.protocol.listener import CONFIRMS, MOST_CONFIRMED, SILENCE, Listener, confirmed
from dnstrail.protocol.turn_follower import TurnFollower
from live.workers import Messages, Probe, open_bus, seen, short_folder, wait_until


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


def looks(listener: Listener, start: float, seconds: float) -> list[int]:
    """Look ten times a second; return the number of new connections to which each look led."""
    return [listener.idle(start + number / 10) for number in range(round(seconds * 10) + 1)]


def turn(start: str = "s", *, live: bool = True, ended: bool = False) -> Turn:
    """Return a turn of a probe."""
    return Turn(start, 1, {}, live=live, now=0, ended=ended)


def test_a_silence_leads_to_a_new_connection(messages):
    """After 3.5 seconds without a turn of a live probe the subscriber connects anew, and again ever more rarely."""
    listener = Listener(messages)
    listener.idle(100.0)
    listener.turn(turn())
    assert not any(looks(listener, 100.0, SILENCE - 0.1))
    listener.turn(turn())
    second = 100.0 + SILENCE - 0.1
    assert not any(looks(listener, second, SILENCE - 0.1))
    third = second + SILENCE - 0.1
    assert sum(looks(listener, third, 2 * SILENCE)) == messages.reopened["s"] == 1
    assert sum(looks(listener, third + 2 * SILENCE, 600)) == 11  # after 7, 14, 28 and 56 seconds, then after 64 each


def test_a_talking_host_does_not_hide_the_silence_of_another(messages):
    """The subscriber connects anew to the host that is silent alone, while another one publishes its turns."""
    listener = Listener(messages)
    listener.idle(100.0)
    listener.turn(turn("silent.s"))
    for number in range(40):
        listener.turn(turn("talking.s"))
        listener.idle(100.0 + number / 10)
    assert messages.reopened == {"silent.s": 1}


def test_the_end_of_one_host_does_not_hide_the_silence_of_another(messages):
    """A host whose probe has ended is awaited no more; another one still is."""
    listener = Listener(messages)
    listener.idle(100.0)
    listener.turn(turn("silent.s"))
    listener.turn(turn("ended.s"))
    listener.turn(turn("ended.s", ended=True))
    assert sum(looks(listener, 100.0, 2 * SILENCE)) == 1
    assert messages.reopened == {"silent.s": 1}


@pytest.mark.parametrize("last", [None, turn(live=False), turn(ended=True)], ids=["none", "of a file", "the last one"])
def test_other_silences_are_normal(messages, last):
    """Before a live probe is heard, after its end, and with a file the subscriber keeps its connection."""
    listener = Listener(messages)
    if last is not None:
        listener.turn(last)
    assert not any(looks(listener, 100.0, 10 * SILENCE))


def test_the_looks_of_an_idle_worker_count_the_whole_silence(messages):
    """A worker that looks once a second finds a silence as soon as one that looks ten times a second."""
    listener = Listener(messages)
    listener.idle(100.0)
    listener.turn(turn())
    assert [listener.idle(100.0 + seconds) for seconds in (1, 2, 3, 4)] == [0, 0, 0, 1]


def test_a_standstill_of_the_subscriber_is_no_silence(messages):
    """A subscriber that was stopped for long first hears what waits for it."""
    listener = Listener(messages)
    listener.idle(100.0)
    listener.turn(turn())
    assert not listener.idle(200.0)


def test_a_cut_connection_is_opened_anew_and_the_gap_is_counted():
    """After a message over the limit of the bus the subscriber hears nothing; it connects anew, and counts its loss."""
    follower = TurnFollower((NET_PACKET_DNS,))
    with short_folder() as folder, open_bus() as bus:
        publishing = Probe(bus.publisher(events_address(folder), lossless=False), "s", live=True)
        subscriber = bus.subscriber([events_address(folder)], [NET_PACKET_DNS, TURN])
        listener = Listener(subscriber)
        received = []

        def take() -> list[str]:
            while (message := subscriber.receive()) is not None:
                topic, body = message
                if topic == TURN:
                    follower.turn(decode(body, Turn))
                    listener.turn(decode(body, Turn))
                else:
                    follower.batch(topic, decode(body, Batch))
                received.append(topic)
            return received

        wait_until(lambda: publishing.turn(seen(b"1")) and {NET_PACKET_DNS, TURN} <= {*take()})
        publishing.publisher.publish(NET_PACKET_DNS, bytes((16 << 20) + 1))
        wait_until(lambda: publishing.publisher.subscribers(TURN) == 0, "the connection to break")
        publishing.turn(seen(b"2"))
        before = len(take())
        assert any(looks(listener, 100.0, 2 * SILENCE))
        wait_until(lambda: publishing.publisher.subscribers(TURN) == 1, "the new connection")
        publishing.turn(seen(b"3"))
        wait_until(lambda: {NET_PACKET_DNS, TURN} <= {*take()[before:]})
        assert follower.lost[NET_PACKET_DNS] == 1
