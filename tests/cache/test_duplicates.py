from __future__ import annotations

import dns.message
import pytest

from dnstrail.captured import Captured, Flow
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Bounds, Image
from dnstrail.image.admission import Admission
from dnstrail_cache.state import Feed
from live.workers import FakeClock, open_bus, response, short_folder

CLIENT, SERVER = bytes([127, 0, 0, 1]), bytes([127, 0, 0, 11])
T = 1_700_000_000_000_000_000
QUERY = dns.message.make_query("behind.example", "A", id=1).to_wire()
ANSWER = response("behind.example", "behind.example 300 A 192.0.2.99")


@pytest.fixture
def feed():
    """A feed that admits only what answers a query that was seen."""
    with short_folder() as folder, open_bus() as bus:
        subscriber = bus.subscriber([f"ipc://{folder}/none.sock"], ["turn"])
        yield Feed(subscriber, Image(Bounds(), Admission("reject")), FakeClock(), lambda _event, _host: None)


def query(socket: int) -> Captured:
    flow = Flow(CLIENT, 40000, SERVER, 44932, "udp", socket, 9, egress=True, meant=SERVER, meant_port=53)
    return Captured(T, QUERY, flow)


def answer(socket: int, later: int, *, egress: bool) -> Captured:
    return Captured(T + later, ANSWER, Flow(SERVER, 53, CLIENT, 40000, "udp", socket, 9, egress=egress))


def test_a_packet_on_two_sockets_is_one_sighting(feed):
    """The answer that leaves by the server's socket and comes in by the client's counts once."""
    for event in (query(1), answer(1, 1000, egress=False), answer(2, 2000, egress=True)):
        feed._feed(NET_PACKET_DNS, event)
    assert (feed.image.counters["related"], feed.counters["copies"]) == (1, 1)


def test_a_packet_that_one_socket_does_not_explain_may_be_explained_by_the_other(feed):
    """Behind NAT the server's own socket never saw the query: the client's did, and its copy is admitted."""
    for event in (query(1), answer(2, 1000, egress=True), answer(1, 2000, egress=False)):
        feed._feed(NET_PACKET_DNS, event)
    assert (feed.image.counters["not_admitted"], feed.image.counters["related"]) == (1, 1)
    assert feed.image.get("192.0.2.99", now=T / 10**9).dns_root == "behind.example"
