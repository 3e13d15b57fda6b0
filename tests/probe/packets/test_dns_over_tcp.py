from __future__ import annotations

from collections import Counter
from itertools import pairwise

import dns.message
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from dnstrail.capture_options import CaptureOptions
from dnstrail_probe.packets import tcp_stream as stream
from dnstrail_probe.packets import tcp_streams as streams
from dnstrail_probe.packets.assembly import Assembly

RAW = 101
SECOND = 10**9
ISN = 2**32 - 20  # so that sequence numbers wrap around within a message or two
FIRST = ISN + 1
SEQUENCE = slice(24, 28)  # in a packet without IP options
CLIENT = {"src": "192.0.2.1", "dst": "192.0.2.2"}


def message(number: int, padding: int = 0) -> bytes:
    """Return a query; `padding` makes it larger, and malformed to a server."""
    query = dns.message.make_query(f"n{number}.example", "A")
    query.id = number
    return query.to_wire() + bytes(padding)


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(2) + message for message in messages)


ONE, TWO, THREE = (message(number) for number in (1, 2, 3))
LARGE = message(4, 3000)
ALL = framed(ONE, TWO, THREE)
L = len(framed(ONE))

SYN, DATA, FIN, RST = "S", "PA", "FA", "R"


def segment(start: int, data: bytes = b"", flags: str = DATA, ip=None, **ports: int) -> bytes:
    """Return a segment at `start` bytes from the first byte of data; a SYN lies one before."""
    tcp = TCP(**{"sport": 4000, "dport": 53, **ports}, seq=(FIRST + start) % 2**32, flags=flags)
    return bytes((ip or IP(**CLIENT)) / tcp / data)


def syn(start: int = 0, data: bytes = b"", **more) -> bytes:
    return segment(start - 1, data, SYN, **more)


def cuts(data: bytes, *places: int) -> list[bytes]:
    """Return the segments of data that are cut at these places."""
    edges = [0, *places, len(data)]
    return [segment(start, data[start:end]) for start, end in pairwise(edges)]


CASES = {
    "three messages, a segment each": ([syn(), *cuts(ALL, L, 2 * L)], [ONE, TWO, THREE], {}),
    "three messages in one segment": ([syn(), segment(0, ALL)], [ONE, TWO, THREE], {}),
    "a message in one-byte segments": ([syn(), *cuts(framed(ONE), *range(1, L))], [ONE], {}),
    "a length that is split": ([syn(), *cuts(ALL, 1, L + 1)], [ONE, TWO, THREE], {}),
    "a message in many segments": ([syn(), *cuts(framed(LARGE), 700, 1400, 2100)], [LARGE], {}),
    "out of order": ([syn(), *reversed(cuts(ALL, L - 3, 2 * L + 1))], [ONE, TWO, THREE], {}),
    "every segment twice": (
        [syn(), syn(), *[part for part in cuts(ALL, L, 2 * L) for _ in "12"]],
        [ONE, TWO, THREE],
        {"tcp_retransmission": 3},
    ),
    "overlapping segments": (
        [syn(), segment(0, ALL[: L + 5]), segment(L - 5, ALL[L - 5 :])],
        [ONE, TWO, THREE],
        {"tcp_retransmission": 1},
    ),
    "an overlap behind a gap": (
        [syn(), segment(L, ALL[L : L + 9]), segment(L + 4, ALL[L + 4 :]), segment(0, ALL[: L + 2])],
        [ONE, TWO, THREE],
        {"tcp_retransmission": 2},
    ),
    "other bytes for what is there already": (
        [syn(), segment(5, ALL[5 : L + 9]), segment(5, bytes(L)), segment(L + 5, ALL[L + 5 :]), segment(0, ALL[:5])],
        [],
        {"tcp_conflict": 1, "tcp_out_of_step": 1},
    ),
    "other bytes behind a gap for the end of a message": (
        [
            syn(),
            segment(L - 3, bytes(3)),
            segment(L - 3, ALL[L - 3 : L]),
            segment(L, ALL[L:]),
            segment(0, ALL[: L - 3]),
        ],
        [TWO, THREE],
        {"tcp_conflict": 1},
    ),
    "other bytes behind a gap, before all come in order": (
        [syn(), segment(5, bytes(len(ALL) - 5)), segment(0, ALL)],
        [ONE, TWO, THREE],
        {"tcp_retransmission": 1},
    ),
    "data in the SYN, as Fast Open has it": ([syn(0, framed(ONE)), segment(L, framed(TWO))], [ONE, TWO], {}),
    "data in the SYN that come again, for they were refused": (
        [syn(0, framed(ONE)), segment(0, framed(ONE, TWO))],
        [ONE, TWO],
        {"tcp_retransmission": 1},
    ),
    "text behind a reset": (
        [syn(), segment(0, framed(ONE)), segment(L, framed(TWO), RST)],
        [ONE],
        {"tcp_not_read": 1},
    ),
    "midstream": (cuts(ALL, L, L + 1), [ONE, TWO, THREE], {}),
    "midstream, within a message": (
        [segment(5, framed(ONE)[5:]), segment(L, ALL[L:])],
        [TWO, THREE],
        {"tcp_out_of_step": 1},
    ),
    "midstream, within a message, and the next one in pieces": (
        [segment(5, framed(ONE)[5:]), segment(L, ALL[L : L + 1]), segment(L + 1, ALL[L + 1 :])],
        [TWO, THREE],
        {"tcp_out_of_step": 1},
    ),
    "a segment that never comes": (
        [syn(), segment(0, framed(ONE)), segment(2 * L, framed(THREE))],
        [ONE, THREE],
        {"tcp_gap": 1},
    ),
    "a segment that never comes, within a message": (
        [syn(), segment(0, ALL[: L + 4]), segment(L + 9, ALL[L + 9 : 2 * L]), segment(2 * L, framed(THREE))],
        [ONE, THREE],
        {"tcp_gap": 1, "tcp_out_of_step": 1},
    ),
    "a new connection from the same port": (
        [syn(), segment(0, framed(ONE), FIN), syn(5_000), segment(5_000, framed(TWO))],
        [ONE, TWO],
        {},
    ),
    "a new connection after a reset within a message": (
        [syn(), segment(0, framed(ONE)[:9]), segment(9, b"", RST), syn(50_000), segment(50_000, framed(TWO))],
        [TWO],
        {"tcp_incomplete": 1},
    ),
    "a message cut short by the end": ([syn(), segment(0, ALL[:-1])], [ONE, TWO], {"tcp_incomplete": 1}),
    "data after a FIN that is sent again": (
        [syn(), segment(0, framed(ONE), FIN), segment(0, framed(ONE), FIN), segment(L + 1, b"", RST)],
        [ONE],
        {"tcp_retransmission": 1, "tcp_without_data": 1},
    ),
    "a keep-alive": ([syn(), segment(0, framed(ONE)), segment(L - 1, b"\0"), segment(L, framed(TWO))], [ONE, TWO], {}),
    "lengths below that of a header": (
        [syn(), segment(0, bytes(2) + b"\0\x03abc" + framed(ONE))],
        [ONE],
        {"tcp_message_short": 2},
    ),
    "the longest message there is": (
        [syn(), *reversed(cuts(framed(bytes(65535)), *range(1400, 65537, 1400)))],
        [bytes(65535)],
        {},
    ),
    "what is no DNS, midstream": ([segment(0, b"GET / HTTP/1.1\r\n\r\n")], [], {"tcp_out_of_step": 1}),
    "two connections, interleaved": (
        [
            syn(),
            syn(0, sport=4001),
            segment(0, framed(ONE)[:7]),
            segment(0, framed(TWO)[:9], sport=4001),
            segment(7, framed(ONE)[7:]),
            segment(9, framed(TWO)[9:], sport=4001),
        ],
        [ONE, TWO],
        {},
    ),
    "IPv6": ([segment(0, framed(ONE), ip=IPv6(src="::1", dst="::2"))], [ONE], {}),
}


def assemble(frames: list[bytes], step: int = 1):
    """Return the events of these frames, `step` ns apart, and the counters."""
    counters: Counter[str] = Counter()
    assembly = Assembly(CaptureOptions(), counters)
    events = [event for place, frame in enumerate(frames, 1) for _, event in assembly.frame(place * step, RAW, frame)]
    return [*events, *(event for _, event in assembly.finish())], counters


@pytest.mark.parametrize("case", CASES)
def test_messages_are_found(case):
    """Each complete message of a connection is found once, in any order of its segments; losses are counted."""
    frames, messages, counted = CASES[case]
    events, counters = assemble(frames)
    assert [event.payload for event in events] == messages
    assert {event.flow.transport for event in events} <= {"tcp"}
    assert counted.items() <= counters.items()
    if not counted:
        assert counters.keys() <= {"tcp_segments", "tcp_retransmission"}


@pytest.mark.parametrize(
    ("frames", "stamps"),
    [
        ([syn(), *cuts(ALL, L, 2 * L)], [2, 3, 4]),
        ([syn(), segment(0, ALL)], [2, 2, 2]),
        ([syn(), *cuts(ALL, 5, L + 1)], [3, 4, 4]),
        ([syn(), segment(5, ALL[5:L]), segment(0, ALL[:5])], [3]),
        ([syn(), segment(L, ALL[L:]), segment(0, ALL[:L])], [3, 2, 2]),
        ([syn(), segment(L, ALL[L:])], [2, 2]),
    ],
)
def test_a_message_has_the_time_of_the_packet_that_completed_it(frames, stamps):
    """A message has the time stamp of its segment that arrived last, even if it waits for other messages."""
    events, _ = assemble(frames)
    assert [event.timestamp for event in events] == stamps


def test_a_gap_is_given_up_when_its_time_is_over():
    """A missing segment is given up after five seconds of the stream's time; then the messages after it count."""
    counters: Counter[str] = Counter()
    assembly = Assembly(CaptureOptions(), counters)
    for frame in (syn(), segment(L, framed(TWO))):
        assert assembly.frame(SECOND, RAW, frame) == []
    assert assembly.advance(SECOND + streams.PATIENCE) == []
    ((_, event),) = assembly.advance(SECOND + streams.PATIENCE + 1)
    assert (event.payload, event.timestamp, event.flow.source_port) == (TWO, SECOND, 4000)
    assert counters["tcp_gap"] == 1
    assert assembly.frame(9 * SECOND, RAW, segment(0, framed(ONE))) == []  # too late
    assert counters["tcp_retransmission"] == 1


def test_a_segment_cut_in_the_capture_costs_one_message():
    """If a capture cut a segment short, the messages in the other segments are found."""
    frames = [syn(), segment(0, framed(ONE)), segment(L, framed(TWO))[:-4], segment(2 * L, framed(THREE))]
    events, counters = assemble(frames)
    assert [event.payload for event in events] == [ONE, THREE]
    assert counters["tcp_gap"] == 1


WHOLE = framed(ONE, message(5, 40), TWO, message(6, 700), THREE)


@given(st.data())
@example(None)
def test_any_arrival_of_the_same_bytes_yields_the_same_messages(data):
    """A stream yields the same messages however its segments are split, reordered, repeated and overlapped."""
    pieces = [(place, place + 1) for place in range(len(WHOLE))]
    if data is not None:
        edges = sorted({0, len(WHOLE), *data.draw(st.lists(st.integers(0, len(WHOLE)), max_size=30))})
        pieces = list(pairwise(edges))
        ends = st.tuples(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)))
        pieces += [(min(pair), max(pair)) for pair in data.draw(st.lists(ends, max_size=15))]
        pieces = data.draw(st.permutations(pieces))
    frames = [syn(), *(segment(start, WHOLE[start:end]) for start, end in pieces)]
    events, counters = assemble(frames)
    assert sorted(event.payload for event in events) == sorted([ONE, message(5, 40), TWO, message(6, 700), THREE])
    assert counters["tcp_gap"] == 0


@given(st.lists(st.integers(0, len(WHOLE)), max_size=40))
def test_midstream_any_split_yields_the_same_messages(places):
    """A stream without SYN that begins with a message yields its messages however it is split."""
    events, _ = assemble(cuts(WHOLE, *sorted({*places} - {0, len(WHOLE)})))
    assert [event.payload for event in events] == [ONE, message(5, 40), TWO, message(6, 700), THREE]


_hostile = st.tuples(
    st.sampled_from(["S", "PA", "A", "R", "SA"]),
    st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 3000).map(lambda n: (FIRST + n) % 2**32)),
    st.one_of(st.binary(max_size=40), st.just(framed(ONE)), st.just(b"\xff\xff"), st.just(bytes(1400))),
    st.integers(4000, 4002),
    st.integers(0, 20 * SECOND),
)


@given(st.lists(_hostile, max_size=60))
def test_any_segments_are_taken(segments):
    """Arbitrary segments at arbitrary times raise nothing, and the count of held bytes is right."""
    assembly = Assembly(CaptureOptions(), Counter())
    for flags, sequence, data, port, timestamp in segments:
        frame = bytes(IP(**CLIENT) / TCP(sport=port, dport=53, seq=sequence, flags=flags) / data)
        assembly.frame(timestamp, RAW, frame)
    directions = assembly._dns._directions.values()
    assert assembly._dns.held == sum(direction.stream.held for direction in directions)
    assembly.finish()
    assert (len(assembly._dns), assembly._dns.held, len(assembly._dns._waiting)) == (0, 0, 0)


def test_a_flow_holds_no_more_than_its_bound():
    """After a gap a flow holds a bounded number of bytes and of pieces; beyond either bound the gap is given up."""
    for size, bound in ((1400, stream.MAX_AHEAD + 65537), (1, 2 * stream.MAX_PIECES)):
        most = bound + stream.OVERHEAD * min(stream.MAX_PIECES, stream.MAX_AHEAD // size + 1)
        counters: Counter[str] = Counter()
        assembly = Assembly(CaptureOptions(), counters)
        assembly.frame(0, RAW, syn())
        frame = bytearray(segment(0, b"\xff" * size))
        for place in range(1, 800):
            frame[SEQUENCE] = ((FIRST + place * (size + 1)) % 2**32).to_bytes(4)
            assembly.frame(0, RAW, bytes(frame))
            assert assembly._dns.held <= most
        assert counters["tcp_gap"] >= 1


def test_all_flows_hold_no_more_than_their_bounds(monkeypatch):
    """Beyond the bounds on flows and bytes the longest idle connection is evicted and counted."""
    monkeypatch.setattr(streams, "MAX_STREAMS", 100)
    monkeypatch.setattr(streams, "MAX_BYTES", 20_000)
    counters: Counter[str] = Counter()
    assembly = Assembly(CaptureOptions(), counters)
    for port in range(10_000, 10_500):
        assembly.frame(0, RAW, syn(0, b"\xff\xff" + bytes(98), sport=port))
        assert len(assembly._dns) <= 100
    for port in range(20_000, 20_050):
        assembly.frame(0, RAW, syn(0, b"\xff\xff" + bytes(988), sport=port))
        assert assembly._dns.held <= 20_000
    assert counters["tcp_evicted"] == 550 - len(assembly._dns)
    before = assembly._dns.held
    assembly.frame(0, RAW, segment(990, b"\0", sport=20_049))  # the latest one is still there
    assert assembly._dns.held == before + 1


def test_small_pieces_count_with_their_overhead(monkeypatch):
    """Pieces of a byte behind gaps fill the bound on bytes by the memory that each of them takes."""
    monkeypatch.setattr(streams, "MAX_BYTES", 20 * stream.OVERHEAD)
    counters: Counter[str] = Counter()
    assembly = Assembly(CaptureOptions(), counters)
    for port in range(10_000, 10_030):
        assembly.frame(0, RAW, syn(0, sport=port))
        assembly.frame(0, RAW, segment(5, b"x", sport=port))
    assert counters["tcp_evicted"] == 11


def test_an_idle_connection_ends():
    """An idle connection ends after five minutes, and its incomplete message is counted as lost."""
    counters: Counter[str] = Counter()
    assembly = Assembly(CaptureOptions(), counters)
    assembly.frame(0, RAW, syn(0, framed(ONE)[:-1]))
    assembly.advance(streams.IDLE)
    assert len(assembly._dns) == 1
    assembly.advance(streams.IDLE + 1)
    assert (len(assembly._dns), assembly._dns.held, counters["tcp_incomplete"]) == (0, 0, 1)
