from __future__ import annotations

import tracemalloc

import dns.message
import pytest

from dnstrail.captured import Captured, Flow
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Bounds, Image
from dnstrail.image.admission import Admission
from dnstrail.protocol.batches import Batch
from dnstrail_cache.duplicates import MAX_REMEMBERED, WINDOW, DuplicateFilter
from dnstrail_cache.feeder import Feeder
from dnstrail_cache.state import CacheState
from live.workers import FakeClock, Messages, response

CLIENT, SERVER = bytes([127, 0, 0, 1]), bytes([127, 0, 0, 11])
T = 1_700_000_000_000_000_000
QUERY = dns.message.make_query("behind.example", "A", id=1).to_wire()
ANSWER = response("behind.example", "behind.example 300 A 192.0.2.99")


@pytest.fixture
def state():
    """Return a cache that admits only responses to queries that it was fed."""
    return CacheState(Image(Bounds(), Admission("reject")), FakeClock())


@pytest.fixture
def feed(state):
    """Apply one DNS message to the state."""
    feeder = Feeder(Messages(), state, lambda _event, _batch: None)
    return lambda event: feeder._apply_event(NET_PACKET_DNS, event, True, Batch("s", 0, 0, [event]))


def query(socket: int) -> Captured:
    flow = Flow(CLIENT, 40000, SERVER, 44932, "udp", socket, 9, egress=True, meant=SERVER, meant_port=53)
    return Captured(T, QUERY, flow)


def answer(socket: int, later: int, *, egress: bool) -> Captured:
    return Captured(T + later, ANSWER, Flow(SERVER, 53, CLIENT, 40000, "udp", socket, 9, egress=egress))


def test_a_packet_on_two_sockets_is_one_sighting(feed, state):
    """A response that leaves by the server's socket and arrives at the client's is one sighting."""
    for event in (query(1), answer(1, 1000, egress=False), answer(2, 2000, egress=True)):
        feed(event)
    assert (state.image.counters["related"], state.counters["copies"]) == (1, 1)


def test_a_packet_that_one_socket_does_not_explain_may_be_explained_by_the_other(feed, state):
    """Behind NAT only the client's socket saw the query: the copy at that socket is admitted."""
    for event in (query(1), answer(2, 1000, egress=True), answer(1, 2000, egress=False)):
        feed(event)
    assert (state.image.counters["not_admitted"], state.image.counters["related"]) == (1, 1)
    assert state.image.get("192.0.2.99", now=T / 10**9).dns_root == "behind.example"


COPIES = {
    "another socket at once": (answer(2, 0, egress=True), True),
    "another socket, at the end of the window": (answer(2, WINDOW, egress=True), True),
    "another socket, before the first one": (answer(2, -WINDOW, egress=True), True),
    "another socket, past the window": (answer(2, WINDOW + 1, egress=True), False),
    "another socket, long before": (answer(2, -WINDOW - 1, egress=True), False),
    "the same socket": (answer(1, 1, egress=False), False),
    "no socket": (answer(0, 1, egress=False), False),
    "no flow": (Captured(T, ANSWER), False),
    "another port": (Captured(T, ANSWER, Flow(SERVER, 53, CLIENT, 40001, "udp", 2, 9)), False),
    "other bytes": (Captured(T, ANSWER + b"x", Flow(SERVER, 53, CLIENT, 40000, "udp", 2, 9)), False),
}


@pytest.mark.parametrize(("event", "is_copy"), COPIES.values(), ids=COPIES)
def test_which_packets_are_copies(event, is_copy):
    """A copy has the same bytes and ends, another socket, and a time stamp within 100 ms."""
    duplicates = DuplicateFilter()
    duplicates.note(answer(1, 0, egress=False))
    assert WINDOW == 100_000_000
    assert duplicates.is_copy(event) is is_copy


def packet(number: int, stamp: int, size: int = 0, socket: int = 1) -> Captured:
    """Return a packet of its own, with its own payload."""
    payload = number.to_bytes(4) + bytes(size)
    return Captured(stamp, payload, Flow(SERVER, 53, CLIENT, 40000, "udp", socket, 9))


def test_the_filter_holds_no_payload():
    """4,000 payloads of 60 kB, one second apart, cost the filter less memory than one payload."""
    duplicates = DuplicateFilter()
    tracemalloc.start()
    try:
        for number in range(4000):
            duplicates.note(packet(number, T + number * 10**9, 60_000))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 60_000
    assert len(duplicates) == 2


def test_the_filter_forgets_what_is_older_than_two_windows():
    """A packet stays for the window, and leaves once two later halves have begun."""
    duplicates = DuplicateFilter()
    for number, after in enumerate((0, WINDOW // 2, WINDOW, WINDOW + 1)):
        duplicates.note(packet(number, T + after))
    assert len(duplicates) == 4
    duplicates.note(packet(4, T + 2 * WINDOW + 2))
    assert len(duplicates) == 2


def test_a_copy_is_found_in_the_older_half():
    """A packet that a younger half has followed still shows its copy, to the end of the window."""
    duplicates = DuplicateFilter()
    for later in (0, WINDOW, WINDOW + 1):
        duplicates.note(answer(1, later, egress=False) if later == WINDOW else packet(later, T + later))
    assert duplicates.is_copy(answer(2, 2 * WINDOW, egress=True))


def test_clocks_that_differ_do_not_empty_the_filter():
    """Packets of two hosts arrive in turn, and the clock of one host is an hour late: copies of both are found."""
    duplicates = DuplicateFilter()
    stamps = T, T - 3600 * 10**9, T + 1000
    for number, stamp in enumerate(stamps):
        duplicates.note(packet(number, stamp))
    assert [duplicates.is_copy(packet(number, stamp, socket=2)) for number, stamp in enumerate(stamps)] == [True] * 3


def test_the_filter_is_bounded_within_the_window():
    """The filter holds at most 65,536 of the packets that arrive at once, and the newest 32,768 of them at least."""
    duplicates = DuplicateFilter()
    held = set()
    for number in range(2 * MAX_REMEMBERED):
        duplicates.note(packet(number, T))
        held.add(len(duplicates))
    assert max(held) == MAX_REMEMBERED == 65_536
    assert duplicates.is_copy(packet(3 * MAX_REMEMBERED // 2, T, socket=2))
