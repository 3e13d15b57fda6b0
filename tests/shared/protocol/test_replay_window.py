"""The replay window of a probe: whole turns, bounded in bytes and in time."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from dnstrail.protocol import replay_window
from dnstrail.protocol.batch_publisher import MOST_EVENTS, BatchPublisher
from dnstrail.protocol.batches import TURN
from dnstrail.protocol.replay_window import KEPT, ReplayWindow
from dnstrail.protocol.replays import AT_ONCE, ReplayRequest, decode_replay, encode_replay
from live.workers import seen


class Requests:
    """A server whose requests a test appends."""

    refused = 0

    def __init__(self):
        self.waiting = []
        self.replies = []

    def receive(self):
        """Return the oldest request."""
        return Asked(self.waiting.pop(0), self.replies) if self.waiting else None

    def close(self):
        """Close nothing."""


class Asked:
    """A request, whose reply is noted."""

    client, fault, remote, user = b"", "", "", None

    def __init__(self, body, replies):
        self.body = body
        self._replies = replies

    def reply(self, body):
        """Note a reply."""
        self._replies.append(body)
        return True


@pytest.fixture
def window():
    return ReplayWindow("start")


def turns_of(window, after, start="start"):
    """Return the bodies that a request receives, and the last turn of the reply."""
    server = Requests()
    server.waiting.append(encode_replay(ReplayRequest(start, after)))
    window.serve(server)
    replay = decode_replay(server.replies[0])
    return [body for _, body in replay.messages], replay.last


def fill(window, turns, size=1, now=0.0):
    """Add turns, each with one message."""
    for turn in turns:
        window.add(turn, [(TURN, bytes([turn % 256]) * size)], now)


def test_the_turns_after_one_are_replayed(window):
    """A request receives the turns after the one that it names, as they were published."""
    fill(window, range(5))
    assert turns_of(window, 2) == ([b"\x03", b"\x04"], 4)
    assert turns_of(window, -1)[0] == [bytes([turn]) for turn in range(5)]
    assert turns_of(window, 4)[0] == []


def test_a_reply_is_bounded(window):
    """A reply ends with the turn that exceeds a MiB; the next request goes on."""
    fill(window, range(5), size=AT_ONCE // 2)
    bodies, last = turns_of(window, -1)
    assert (len(bodies), last) == (2, 1)
    assert turns_of(window, last)[1] == 3


def test_old_turns_are_dropped(window):
    """A turn is kept for KEPT seconds; its end by time is no eviction."""
    fill(window, [0], now=0.0)
    fill(window, [1], now=KEPT - 1)
    fill(window, [2], now=KEPT)
    assert turns_of(window, -1) == ([b"\x01", b"\x02"], 2)
    assert window.evicted == 0


def test_bytes_are_bounded_and_counted(window, monkeypatch):
    """Beyond the bytes the oldest turns are evicted and counted; a turn that fits in no message is not kept."""
    monkeypatch.setattr(replay_window, "MOST_BYTES", 4000)
    monkeypatch.setattr(replay_window, "MOST_OF_TURN", 2000)
    fill(window, range(5), size=1000)
    assert turns_of(window, -1)[1] == 4
    assert window.evicted == 3
    fill(window, [5], size=2000)
    assert window.evicted == 4
    fill(window, [6], size=1000)
    assert turns_of(window, 4) == ([b"\x06" * 1000], 6)


@pytest.mark.parametrize("body", [b"", b"\x00", b"\xff" * 100, encode_replay(ReplayRequest("another", 0))])
def test_a_strange_request_receives_nothing(window, body):
    """A request that is damaged, or names another start, receives no turn."""
    fill(window, range(3))
    server = Requests()
    server.waiting.append(body)
    window.serve(server)
    assert decode_replay(server.replies[0]).messages == []


def test_a_flood_of_requests_does_not_hold_the_probe(window):
    """One step answers one request alone."""
    fill(window, range(3))
    server = Requests()
    server.waiting = [encode_replay(ReplayRequest("start", -1))] * 100
    window.serve(server)
    assert len(server.replies) == 1


def test_what_is_published_is_kept(window):
    """The window holds the very messages of each turn that the bus receives, whether or not it takes them at once."""

    class Full:
        """A publisher that takes no message."""

        def publish(self, _topic, _body):
            return False

    batches = BatchPublisher(Full(), "start", live=True)
    batches.window = window
    batches.add("net_packet_dns", seen(b"x" * 12, 1.0))
    batches.close_turn(0, Counter(), closed=1.0)
    assert not batches.flush()
    assert [(topic, body) for topic, body in batches._outbox] == window._turns[0][2]


def test_no_connection_of_a_turn_overtakes_its_answer(window):
    """The DNS messages of a turn leave first, in their order, whatever was captured before them."""
    batches = BatchPublisher(SimpleNamespace(), "start", live=True)
    batches.window = window
    for topic in ("net_tcp_connect", "sched_process_exit", *["net_packet_dns"] * (MOST_EVENTS + 1), "net_tcp_connect"):
        batches.add(topic, seen(b"x" * 12, 1.0))
    batches.close_turn(0, Counter(), closed=1.0)
    assert [topic for topic, _ in window._turns[0][2]] == [
        *("net_packet_dns", "net_packet_dns", "net_tcp_connect", "sched_process_exit", TURN)
    ]


def ask(window, *requests):
    """Send requests; return the replies."""
    server = Requests()
    server.waiting += [request if isinstance(request, bytes) else encode_replay(request) for request in requests]
    while server.waiting:
        window.serve(server)
    return [decode_replay(reply) for reply in server.replies]


@pytest.mark.parametrize(
    ("request_", "awaited"),
    [
        (ReplayRequest("start", 4, 5), True),
        (ReplayRequest("start", 4, 9), True),
        (ReplayRequest("", -1, 9), True),
        (ReplayRequest("start", 3, 4), False),
        (ReplayRequest("another", 4, 5), False),
        (ReplayRequest("start", 4), False),
        (b"", False),
    ],
    ids=["the open turn", "a later one", "of any start", "an ended one", "of another start", "a replay", "no request"],
)
def test_a_request_for_the_end_of_the_open_turn_is_noted(window, request_, awaited):
    """The open turn is awaited until it ends; each reply names the start, so that the asker knows whom it reached."""
    fill(window, range(5))
    assert [reply.start for reply in ask(window, request_)] == ["start"]
    assert window.awaited is awaited
    fill(window, [5])
    assert not window.awaited


def test_a_request_for_an_end_receives_no_turns(window):
    """It costs the probe little: many are answered in one step, and a replay ends the step."""
    fill(window, range(5))
    server = Requests()
    server.waiting += [encode_replay(ReplayRequest("start", -1, 5))] * 10 + [
        encode_replay(ReplayRequest("start", 0))
    ] * 2
    window.serve(server)
    assert [len(decode_replay(reply).messages) for reply in server.replies] == [0] * 10 + [4]
    assert len(server.waiting) == 1
