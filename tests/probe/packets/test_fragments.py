from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment

from dnstrail.capture_options import CaptureOptions
from dnstrail_probe.packets import fragments
from dnstrail_probe.packets.assembly import Assembly
from dnstrail_probe.packets.fragments import Fragments
from dnstrail_probe.packets.packet import Fragment, IpPacket

RAW = 101
SECOND = 10**9
BODY = bytes(range(200))
TO_53 = UDP(sport=4000, dport=53)
WHOLE4 = bytes(IP(src="192.0.2.1", dst="192.0.2.2") / TO_53 / BODY)[20:]  # with the checksum
WHOLE6 = bytes(IPv6(src="::1", dst="::2") / TO_53 / BODY)[40:]
END = len(WHOLE4)
A, B = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])


def four(start: int, end: int, number: int = 7, data: bytes = WHOLE4, more: bool | None = None) -> bytes:
    """Return the IPv4 fragment with these bytes of a datagram."""
    more = end < END if more is None else more
    head = IP(src="192.0.2.1", dst="192.0.2.2", id=number, frag=start // 8, flags="MF" if more else 0, proto=17)
    return bytes(head / data[start:end])


def six(start: int, end: int, number: int = 7) -> bytes:
    """Return the IPv6 fragment with these bytes of a datagram."""
    head = IPv6ExtHdrFragment(nh=17, id=number, offset=start // 8, m=int(end < END))
    return bytes(IPv6(src="::1", dst="::2") / head / WHOLE6[start:end])


OTHER = b"\xff" * END
CASES = {
    "IPv4, in order": ([four(0, 80), four(80, 160), four(160, END)], 1, {}),
    "IPv4, out of order": ([four(160, END), four(0, 80), four(80, 160)], 1, {}),
    "IPv6, in order": ([six(0, 80), six(80, 160), six(160, END)], 1, {}),
    "IPv6, out of order": ([six(160, END), six(80, 160), six(0, 80)], 1, {}),
    "two datagrams, interleaved": ([four(0, 80), four(0, 80, 8), four(80, END, 8), four(80, END)], 2, {}),
    "the same datagram number, once more": ([four(0, 80), four(80, END)] * 2, 2, {}),
    "a duplicate": ([four(0, 80), four(0, 80), four(80, END)], 1, {"fragment_duplicate": 1}),
    "the last piece missing": ([four(0, 80), four(80, 160)], 0, {"fragment_incomplete": 1}),
    "the first piece missing": ([six(80, 160), six(160, END)], 0, {"fragment_incomplete": 1}),
    "an overlap, which drops the datagram": (
        [four(0, 80), four(72, 160), four(80, 160), four(160, END)],
        0,
        {"fragment_overlap": 3},
    ),
    "an overlap from before": ([four(80, END), four(0, 88)], 0, {"fragment_overlap": 1}),
    "other bytes for the same place": (
        [four(0, 80), four(0, 80, data=OTHER), four(80, END)],
        0,
        {"fragment_overlap": 2},
    ),
    "an overlap in IPv6": ([six(0, 80), six(72, 160), six(160, END)], 0, {"fragment_overlap": 2}),
    "two ends": ([four(80, END), four(80, 160, more=False)], 0, {"fragment_overlap": 1}),
    "an end before what has come": ([four(160, 200), four(80, 120, more=False)], 0, {"fragment_overlap": 1}),
    "a piece past the end": ([four(80, 160, more=False), four(160, 200)], 0, {"fragment_overlap": 1}),
    "a length that is no multiple of 8": ([four(0, 81), four(80, END)], 1, {}),
    "a length that is no multiple of 8 in IPv6": ([six(0, 81)], 0, {"fragment_bad": 1}),
    "a piece of less than 8 bytes": ([four(0, 7)], 0, {"fragment_bad": 1}),
    "the same bytes again, in smaller pieces": (
        [four(0, 80), four(8, 40), four(40, 80), four(80, END)],
        1,
        {"fragment_duplicate": 2},
    ),
    "the same bytes again, in a larger piece": (
        [four(0, 40), four(40, 80), four(0, 80), four(80, END)],
        1,
        {"fragment_duplicate": 1},
    ),
    "a larger piece over a gap": ([four(0, 40), four(48, 80), four(0, 80)], 0, {"fragment_overlap": 1}),
    "other bytes within a larger piece": (
        [four(0, 40), four(40, 80), four(32, 48, data=OTHER)],
        0,
        {"fragment_overlap": 1},
    ),
    "a piece past 65,535 bytes": (
        [bytes(IP(src="192.0.2.1", dst="192.0.2.2", frag=8191, proto=17) / bytes(16))],
        0,
        {"fragment_bad": 1},
    ),
    "an empty piece": ([four(80, 80, more=True)], 0, {"fragment_bad": 1}),
    "the same number from another host": (
        [four(0, 80), bytes(IP(src="192.0.2.9", dst="192.0.2.2", id=7, frag=10, proto=17) / WHOLE4[80:])],
        0,
        {"fragment_incomplete": 2},
    ),
    "another protocol": (
        [four(0, 80), bytes(IP(src="192.0.2.1", dst="192.0.2.2", id=7, frag=10, proto=6) / WHOLE4[80:])],
        0,
        {"fragment_incomplete": 2},
    ),
}


def assemble(frames: list[bytes]):
    counters: Counter[str] = Counter()
    assembly = Assembly(CaptureOptions(), counters)
    events = [event for place, frame in enumerate(frames) for _, event in assembly.frame(place, RAW, frame)]
    return [*events, *(event for _, event in assembly.finish())], counters


@pytest.mark.parametrize("case", CASES)
def test_datagrams_are_put_together(case):
    """A datagram is found when its last piece arrives, in whatever order; a piece that spoils it is counted."""
    frames, found, counted = CASES[case]
    events, counters = assemble(frames)
    assert [event.payload for event in events] == [BODY] * found
    assert counters == {"fragments": len(frames), **counted}


def test_a_datagram_has_the_time_of_the_piece_that_completed_it():
    """A datagram has the time stamp of the piece that arrived last."""
    events, _ = assemble([four(80, END), four(0, 80)])
    assert [event.timestamp for event in events] == [1]


def test_headers_behind_a_fragment_header_are_followed():
    """Extension headers that span fragments are read after reassembly."""
    whole = bytes(IPv6ExtHdrDestOpt(nh=17)) + WHOLE6
    pieces = [(0, whole[:8]), (8, whole[8:96]), (96, whole[96:])]
    frames = [
        bytes(
            IPv6(src="::1", dst="::2") / IPv6ExtHdrFragment(nh=60, id=9, offset=start // 8, m=int(start < 96)) / piece
        )
        for start, piece in pieces
    ]
    events, _ = assemble(frames)
    assert [event.payload for event in events] == [BODY]


def test_fragments_within_fragments_are_refused():
    """A fragment header inside a reassembled packet is refused."""
    inner = bytes(IPv6ExtHdrFragment(nh=17, id=1, offset=0, m=1)) + WHOLE6[:80]
    head = IPv6(src="::1", dst="::2")
    frames = [
        bytes(head / IPv6ExtHdrFragment(nh=44, id=9, offset=0, m=1) / inner[:40]),
        bytes(head / IPv6ExtHdrFragment(nh=44, id=9, offset=5, m=0) / inner[40:]),
    ]
    events, counters = assemble(frames)
    assert (events, counters) == ([], {"fragments": 2, "fragment_bad": 1})


def test_a_datagram_waits_for_a_bounded_time():
    """Pieces are held for a minute of the stream's time, and then counted as lost."""
    counters: Counter[str] = Counter()
    held = Fragments(counters)
    packet = IpPacket(A, B, 17, bytes(8))
    held.add(packet, Fragment(1, 0, more=True), 5 * SECOND)
    held.expire(5 * SECOND + fragments.TIMEOUT)
    assert len(held) == 1
    held.expire(5 * SECOND + fragments.TIMEOUT + 1)
    assert (len(held), held.held, counters["fragment_timeout"]) == (0, 0, 1)


def test_pieces_without_end_hold_bounded_memory(monkeypatch):
    """Beyond the bounds on packets and bytes the oldest packet is evicted and counted."""
    monkeypatch.setattr(fragments, "MAX_PACKETS", 50)
    monkeypatch.setattr(fragments, "MAX_BYTES", 20_000)
    counters: Counter[str] = Counter()
    held = Fragments(counters)
    for number in range(500):
        packet = IpPacket(A, B, 17, bytes(8 if number < 200 else 1024))
        held.add(packet, Fragment(number, 0, more=True), 0)
        assert len(held) <= 50
        assert held.held <= 20_000
    assert counters["fragment_evicted"] == 500 - len(held)


@given(st.data())
def test_any_arrival_of_the_same_pieces_yields_the_datagram(data):
    """A datagram is found however its pieces are cut, reordered and repeated; a repeated one twice at most."""
    edges = sorted({0, END, *(8 * place for place in data.draw(st.lists(st.integers(1, END // 8), max_size=8)))})
    pieces = list(pairwise(edges))
    doubled = data.draw(st.lists(st.sampled_from(pieces), max_size=4))
    frames = [four(*piece) for piece in data.draw(st.permutations(pieces + doubled))]
    if len(pieces) > 1:
        events, counters = assemble(frames)
        assert {event.payload for event in events} == {BODY}
        assert counters["fragment_overlap"] == 0


_piece = st.tuples(st.integers(0, 3), st.integers(0, 12), st.integers(0, 40), st.booleans(), st.integers(0, 200))


@given(st.lists(_piece, max_size=60), st.sampled_from([(A, B), (bytes(16), bytes(16))]))
def test_any_fragments_are_taken(pieces, addresses):
    """Arbitrary pieces raise nothing, and nothing is held at the end."""
    held = Fragments(Counter())
    for number, place, length, more, seconds in pieces:
        packet = IpPacket(*addresses, 17, bytes(length))
        held.add(packet, Fragment(number, place * 8, more=more), seconds * SECOND)
    held.finish()
    assert (len(held), held.held) == (0, 0)
