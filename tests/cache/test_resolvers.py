"""The times of resolvers."""

from __future__ import annotations

from builders.talk import OWN, SERVERS, Talk, answer, back, packed, query, there
from dnstrail.captured import Flow
from dnstrail_cache.metrics import MOST_RESOLVERS, OTHER, Resolvers

MILLISECOND = 1_000_000  # ns


def counts(resolvers):
    return {labels: times.count for labels, times in resolvers.times()}


def response_from(number):
    return back(there(server=f"10.0.{number >> 8}.{number & 255}"))


def talked():
    """Return a live image whose responses are noted, and the notes."""
    talk, resolvers = Talk(), Resolvers()
    talk.image.on_response = resolvers.observe
    return talk, resolvers


def test_a_response_is_noted_with_its_resolver_and_rcode():
    """A response counts for the resolver that the process meant, by its rcode, with the time since its query."""
    talk, resolvers = talked()
    talk.ask(0)
    talk.hear(0.02, answer(""))
    refused = query(flags=0x8183)
    talk.ask(1)
    talk.hear(1.5, refused)
    assert counts(resolvers) == {("NOERROR", "10.0.0.53"): 1, ("NXDOMAIN", "10.0.0.53"): 1}
    times = dict(resolvers.times())
    assert abs(times["NOERROR", "10.0.0.53"].total - 0.02) < 1e-6
    assert abs(times["NXDOMAIN", "10.0.0.53"].total - 0.5) < 1e-6


def test_a_response_at_the_socket_of_a_server_is_not_noted():
    """The socket of a server measures that server alone: the time counts where the query was sent."""
    talk, resolvers = talked()
    talk.ask(0, flow=SERVERS)
    talk.hear(0.02, flow=back(SERVERS))
    assert counts(resolvers) == {}


def test_an_unmatched_response_is_not_noted():
    """Whoever sends responses without a query changes no time."""
    talk, resolvers = talked()
    talk.hear(0.02)
    talk.ask(1)
    talk.hear(1.1, answer(id_=9))
    assert counts(resolvers) == {}


def test_a_query_without_a_response_is_unanswered():
    """A query that no response ends within 30 s is counted once, however often it was sent."""
    talk, _ = talked()
    talk.ask(0)
    talk.ask(1)
    talk.ask(2, query("b.example"))
    talk.hear(2.1, answer(name="b.example"))
    talk.ask(40, query("later.example"))
    assert talk.counted("unanswered") == [1]


def test_a_repeated_query_with_one_response_is_answered():
    """A response to one of several sightings of a query answers it."""
    talk, _ = talked()
    talk.ask(0)
    talk.ask(1)
    talk.hear(1.1)
    talk.ask(40, query("later.example"))
    assert talk.counted("unanswered") == [0]


def test_a_query_at_the_socket_of_a_server_is_not_unanswered():
    """A query counts where it was sent, and not a second time at its server."""
    talk, _ = talked()
    talk.ask(0, flow=SERVERS)
    talk.ask(40, query("later.example"), flow=SERVERS)
    assert talk.counted("unanswered") == [0]


def test_the_table_keeps_the_resolvers_in_use():
    """A thousand servers that answer once displace no resolver that answers often; their times are added up."""
    resolvers = Resolvers()
    for _ in range(10):
        resolvers.observe(response_from(0), 0, MILLISECOND)
    for number in range(1, 1001):
        resolvers.observe(response_from(number), 3, MILLISECOND)
    found = counts(resolvers)
    assert found["NOERROR", "10.0.0.0"] == 10
    assert len(resolvers.answered) == MOST_RESOLVERS
    assert found["NXDOMAIN", OTHER] == 1001 - MOST_RESOLVERS
    assert sum(found.values()) == 1010


def test_labels_are_a_closed_set():
    """Whatever a response contains, its labels are an address and one of five rcodes."""
    resolvers = Resolvers()
    for rcode in range(16):
        resolvers.observe(response_from(1), rcode, -5)
        resolvers.observe(Flow(b"", 53, b"", 1), rcode, 5)
        resolvers.observe(Flow(packed("::ffff:10.0.0.1"), 53, b"", 1), rcode, 5)
    found = counts(resolvers)
    assert {rcode for rcode, _ in found} == {"NOERROR", "SERVFAIL", "NXDOMAIN", "REFUSED", OTHER}
    assert {server for _, server in found} == {"10.0.0.1", "unknown"}


def test_the_meant_resolver_counts():
    """Behind NAT the resolver that the process meant counts, as Docker's 127.0.0.11."""
    talk, resolvers = talked()
    flow = there("127.0.0.1", "127.0.0.11", to=44932, meant=packed("127.0.0.11"), meant_port=53, socket=7, egress=True)
    talk.ask(0, flow=flow)
    talk.hear(0.02, flow=Flow(packed("127.0.0.11"), 53, packed("127.0.0.1"), 40000, "udp", 7, 0, egress=False))
    assert [server for _, server in counts(resolvers)] == ["127.0.0.11"]
    assert OWN.socket == flow.socket
