"""Segments that the receiver drops have no effect: both ends of each connection are played."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP

from builders.dns_builders import response_to
from dnstrail.capture_options import CaptureOptions
from dnstrail_probe.packets import tcp_streams as streams
from dnstrail_probe.packets.assembly import Assembly
from dnstrail_probe.packets.tcp_direction import WINDOW

RAW = 101
SECOND = 10**9
CLIENT, SERVER = ("192.0.2.1", 4000), ("192.0.2.53", 53)
ISN_CLIENT, ISN_SERVER = 2**32 - 7, 2**32 - 30  # the sequence numbers of both wrap around
TRUE, FORGED = (response_to(f"{name}.test") for name in ("true", "forged"))
QUERY = dns.message.make_query("true.test", "A").to_wire()


def framed(message: bytes) -> bytes:
    """Return a message with its length in front."""
    return len(message).to_bytes(2) + message


def frame(source: tuple[str, int], destination: tuple[str, int], data: bytes, **fields: object) -> bytes:
    """Return an IP packet with a segment; numbers wrap around."""
    numbers = {name: fields.pop(name, 0) % 2**32 for name in ("seq", "ack")}
    tcp = TCP(sport=source[1], dport=destination[1], **{"flags": "A", **numbers, **fields})
    return bytes(IP(src=source[0], dst=destination[0]) / tcp / data)


def from_client(at: int, data: bytes = b"", *, ack: int = 0, **fields: object) -> bytes:
    """Return a segment of the client: `at` and `ack` count from the first byte of each direction."""
    return frame(CLIENT, SERVER, data, seq=ISN_CLIENT + 1 + at, ack=ISN_SERVER + 1 + ack, **fields)


def from_server(at: int, data: bytes = b"", *, ack: int = 0, **fields: object) -> bytes:
    """Return a segment of the server."""
    return frame(SERVER, CLIENT, data, seq=ISN_SERVER + 1 + at, ack=ISN_CLIENT + 1 + ack, **fields)


def handshake(window: int = 500, scale: int | None = 7) -> list[bytes]:
    """Return the three segments that open a connection; the client states its window in the third."""
    options = [] if scale is None else [("WScale", scale)]
    return [
        frame(CLIENT, SERVER, b"", seq=ISN_CLIENT, flags="S", options=options, window=65535),
        frame(SERVER, CLIENT, b"", seq=ISN_SERVER, ack=ISN_CLIENT + 1, flags="SA", options=options, window=65535),
        from_client(0, window=window),
    ]


ASKED = [*handshake(), from_client(0, framed(QUERY), window=500)]
ROOM = 500 << 7  # the window of the client
OTHER_ISN = frame(SERVER, CLIENT, b"", seq=ISN_SERVER + 2**20, ack=ISN_CLIENT + 1, flags="SA")
OTHER_SYN = frame(CLIENT, SERVER, b"", seq=ISN_CLIENT + 2**20, flags="S")


class Playing:
    """An assembly, with the payloads of its events and its counters."""

    def __init__(self, *frames: bytes) -> None:
        self.counters: Counter[str] = Counter()
        self.assembly = Assembly(CaptureOptions(), self.counters)
        self.found: list[bytes] = []
        self.play(0, *frames)

    def play(self, now: int, *frames: bytes) -> list[bytes]:
        """Play frames at a time; return the messages so far."""
        for one in frames:
            self.found += [event.payload for _, event in self.assembly.frame(now, RAW, one)]
        return self.found

    def end(self) -> list[bytes]:
        """Return all messages."""
        self.found += [event.payload for _, event in self.assembly.finish()]
        return self.found


ATTACKS = {
    "2^30 ahead": [from_server(2**30, framed(FORGED))],
    "2^30 behind": [from_server(-(2**30), framed(FORGED))],
    "just beyond the window": [from_server(ROOM, framed(FORGED))],
    "an ISN of its own": [OTHER_ISN, from_server(2**20, framed(FORGED))],
    "a SYN of its own": [OTHER_SYN, from_client(2**20, framed(FORGED))],
    "no acknowledgment": [from_server(0, framed(FORGED), flags="P")],
    "a reset elsewhere, then an ISN of its own": [
        from_server(5, flags="R"),
        OTHER_ISN,
        from_server(2**20, framed(FORGED)),
    ],
    "a FIN elsewhere, then an ISN of its own": [
        from_server(2**30, flags="FA"),
        OTHER_ISN,
        from_server(2**20, framed(FORGED)),
    ],
    "a window stated from elsewhere": [
        from_client(2**30, ack=2**20, window=65535),
        from_server(2**20, framed(FORGED)),
    ],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_forged_segment_has_no_effect(attack):
    """A segment that the kernel drops yields no message and is counted; the true answer after it is found."""
    playing = Playing(*ASKED, *ATTACKS[attack])
    playing.play(1, from_server(0, framed(TRUE), ack=len(framed(QUERY))))
    assert playing.end() == [QUERY, TRUE]
    assert playing.counters["tcp_out_of_window"] == len(ATTACKS[attack])
    assert not playing.counters["tcp_gap"]


def test_a_direction_begins_with_an_acknowledgment_of_the_other():
    """Before the answer to a SYN only a segment counts that acknowledges this SYN."""
    opening = handshake()
    wrong = [frame(SERVER, CLIENT, b"", seq=77, ack=ISN_CLIENT + 1 + off, flags="SA") for off in (-1, 1, 2**30)]
    playing = Playing(opening[0], *wrong, from_server(2**30, framed(FORGED), ack=2**30), *opening[1:])
    assert playing.counters["tcp_out_of_window"] == 4
    assert playing.play(1, from_server(0, framed(TRUE))) == [TRUE]


@pytest.mark.parametrize(
    ("acknowledged", "found"), [(-1, []), (0, [TRUE]), (len(framed(QUERY)), [TRUE]), (WINDOW - 1, [TRUE]), (WINDOW, [])]
)
def test_a_direction_may_begin_with_an_acknowledgment_of_lost_bytes(acknowledged, found):
    """If the capture lacks the answer to a SYN and the query, the response counts within a mebibyte of the SYN."""
    playing = Playing(handshake()[0], from_server(0, framed(TRUE), ack=acknowledged))
    assert playing.end() == found
    assert playing.counters["tcp_out_of_window"] == (not found)


def test_a_reset_acknowledges_exactly():
    """Before the answer to a SYN, a reset that acknowledges more than the SYN ends nothing."""
    forged = from_server(0, ack=1, flags="RA")
    playing = Playing(handshake()[0], forged, *AGAIN)
    assert playing.end() == []
    assert playing.counters["tcp_out_of_window"] == 1 + len(AGAIN)


def test_the_window_moves_with_the_acknowledgments():
    """A byte beyond the window counts once the receiver has acknowledged enough, or has stated a larger window."""
    beyond = from_server(ROOM, framed(TRUE))
    assert Playing(*ASKED, beyond).counters["tcp_out_of_window"] == 1
    assert Playing(*ASKED, from_client(0, window=501), beyond).counters["tcp_out_of_window"] == 0
    assert (
        Playing(*ASKED, from_server(0, b"\0" * 9), from_client(0, ack=9, window=500), beyond).counters[
            "tcp_out_of_window"
        ]
        == 0
    )


def test_a_smaller_window_takes_nothing_back():
    """A receiver that states a smaller window still takes what it has allowed before."""
    playing = Playing(*ASKED, from_client(0, window=0), from_server(ROOM - 1, b"x"))
    assert playing.counters["tcp_out_of_window"] == 0


@pytest.mark.parametrize(("scale", "room"), [(None, 500), (0, 500), (7, 64_000), (14, 8_192_000)])
def test_the_window_has_its_scale(scale, room):
    """The window counts with the scale of the SYN; without the option at both ends it counts as it is."""
    playing = Playing(*handshake(500, scale), from_server(room - 1, b"x"))
    # The handshake itself allows 65,535 bytes: the window of a SYN is never scaled.
    assert playing.counters["tcp_out_of_window"] == 0
    assert Playing(*handshake(500, scale), from_server(max(room, 65_535), b"x")).counters["tcp_out_of_window"] == 1


def test_a_window_that_nobody_stated_is_a_mebibyte():
    """If only one direction is captured, segments within a mebibyte count."""
    opening = handshake()[1]
    for distance, dropped in ((WINDOW - 1, 0), (WINDOW, 1), (-WINDOW, 0), (-WINDOW - 1, 1)):
        assert Playing(opening, from_server(distance, b"x")).counters["tcp_out_of_window"] == dropped


def test_the_next_byte_counts_even_if_acknowledgments_are_missing():
    """A stream whose acknowledgments the capture lost continues byte by byte."""
    playing = Playing(*ASKED)
    data = framed(TRUE) * 3000
    for start in range(0, len(data), 1400):
        playing.play(1, from_server(start, data[start : start + 1400]))
    assert playing.end() == [QUERY] + [TRUE] * 3000
    assert not playing.counters["tcp_out_of_window"]


CLOSED = {
    "FIN of both": [from_client(len(framed(QUERY)), flags="FA"), from_server(0, flags="FA")],
    "reset by the server": [from_server(0, flags="RA")],
    "reset by the client": [from_client(len(framed(QUERY)), flags="R")],
    "reset after its FIN": [
        from_client(len(framed(QUERY)), flags="FA"),
        from_client(len(framed(QUERY)) + 1, flags="R"),
    ],
}
AGAIN = [
    OTHER_SYN,
    frame(SERVER, CLIENT, b"", seq=ISN_SERVER + 2**20, ack=ISN_CLIENT + 2**20 + 1, flags="SA"),
    from_client(2**20, framed(QUERY), ack=2**20),
    from_server(2**20, framed(TRUE), ack=2**20),
]


@pytest.mark.parametrize("end", CLOSED)
def test_ports_are_used_again_after_the_end(end):
    """A new connection from the same port begins with its SYN once the connection before has ended."""
    playing = Playing(*ASKED, *CLOSED[end], *AGAIN)
    assert playing.end() == [QUERY, QUERY, TRUE]
    assert not playing.counters["tcp_out_of_window"]


def test_a_half_closed_connection_is_open():
    """A SYN does not count while one end can still send: the answer after it is found."""
    half = from_client(len(framed(QUERY)), flags="FA")
    playing = Playing(*ASKED, half, OTHER_SYN, from_server(0, framed(TRUE)))
    assert playing.end() == [QUERY, TRUE]
    assert playing.counters["tcp_out_of_window"] == 1


def test_a_refused_connection_can_be_tried_again():
    """A reset in answer to a SYN ends the attempt: the next SYN counts."""
    refused = frame(SERVER, CLIENT, b"", seq=0, ack=ISN_CLIENT + 1, flags="RA")
    assert Playing(handshake()[0], refused, *AGAIN).end() == [QUERY, TRUE]


@pytest.mark.parametrize(("wait", "found"), [(streams.REUSE, [QUERY]), (streams.REUSE + 1, [QUERY, QUERY, TRUE])])
def test_an_idle_connection_gives_way_to_a_syn(wait, found):
    """A SYN counts once the connection before was idle for a minute, even if its end was not seen."""
    playing = Playing(*ASKED)
    playing.play(wait, *AGAIN)
    assert playing.end() == found


def test_no_idle_time_opens_a_connection_that_was_seen_from_its_start():
    """A segment without a SYN never begins anew where the connection before was seen to begin, and not to end."""
    playing = Playing(*ASKED)
    playing.play(streams.IDLE, from_server(2**30, framed(FORGED)))
    assert playing.end() == [QUERY]


@pytest.mark.parametrize(("wait", "found"), [(streams.REUSE, [TRUE]), (streams.REUSE + 1, [TRUE, FORGED])])
def test_a_start_within_a_connection_needs_an_idle_time(wait, found):
    """A connection of which no SYN was seen gives way to a segment elsewhere once it was idle for a minute."""
    playing = Playing(from_server(0, framed(TRUE)))
    playing.play(wait, from_server(2**30, framed(FORGED)))
    assert playing.end() == found
    assert playing.counters["tcp_out_of_window"] == 2 - len(found)


def test_forged_segments_do_not_end_the_idle_time():
    """A segment that is dropped counts for no idle time: a flood of them does not hold a connection."""
    playing = Playing(from_server(0, framed(TRUE)))
    for second in range(1, 61):
        playing.play(second * SECOND, from_server(2**30, framed(FORGED)))
    assert playing.counters["tcp_out_of_window"] == 60
    assert playing.play(61 * SECOND, from_server(2**29, framed(TRUE))) == [TRUE, TRUE]


@given(st.data())
def test_any_arrival_within_the_window_yields_every_message(data):
    """Segments of one window arrive in any order and repeatedly; with the acknowledgments every message is found."""
    scale = data.draw(st.sampled_from([None, 0, 3, 14]))
    window = data.draw(st.integers(200, 4000)) if not scale else data.draw(st.integers(200 >> scale, 4000)) + 1
    room = window << (scale or 0)
    playing = Playing(*handshake(window, scale))
    sent, position = framed(TRUE) * 40, 0
    while position < len(sent):
        end = min(position + min(room, 3000), len(sent))
        edges = sorted({position, end, *data.draw(st.lists(st.integers(position, end), max_size=6))})
        pieces = [pair for pair in pairwise(edges) for _ in range(data.draw(st.integers(1, 2)))]
        for start, stop in data.draw(st.permutations(pieces)):
            playing.play(1, from_server(start, sent[start:stop]))
        playing.play(1, from_client(0, ack=end, window=window))
        position = end
    assert playing.end() == [TRUE] * 40
    assert not playing.counters["tcp_out_of_window"]


@given(st.integers(0, 2**32 - 1), st.sampled_from(["PA", "FA", "SA", "S", "P"]))
def test_no_segment_outside_of_the_window_is_believed(distance, flags):
    """Wherever a forged segment lies outside of the window, the true answer alone is found."""
    within = distance < ROOM or 2**32 - distance <= WINDOW
    if distance == 2**32 - 1 if "S" in flags else within:
        return
    playing = Playing(*ASKED, from_server(distance, framed(FORGED), flags=flags))
    playing.play(1, from_server(0, framed(TRUE)))
    assert playing.end() == [QUERY, TRUE]
    assert playing.counters["tcp_out_of_window"] == 1
