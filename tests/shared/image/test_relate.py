"""The messages that count, and the relations of their records.

Tests of dnstrail.dns.rdata.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import permutations

import dns.flags
import pytest

from builders.dns_builders import CNAME, SECOND, TXT, A, asked, by_hand, record, relations_of, response_to, wire
from builders.hostile import ONE, QUESTION, P
from dnstrail.captured import Flow
from dnstrail.dns import decode
from dnstrail.dns.rdata import SVCB
from dnstrail.dns.service_binding import MAX_HINTS
from dnstrail.image import Circumstances, Image
from dnstrail.image.relate import MAX_TTL, life, relate

ADDRESS = record(P, A, ONE)
V6 = "2001:db8::1"

MESSAGES = {
    "a response": (by_hand(QUESTION, ADDRESS), None),
    "truncated": (by_hand(QUESTION, ADDRESS, flags=0x8380), None),
    "NXDOMAIN with an alias": (by_hand(QUESTION, ADDRESS, flags=0x8183), None),
    "SERVFAIL with an answer": (by_hand(QUESTION, ADDRESS, flags=0x8182), None),
    "REFUSED with an answer": (by_hand(QUESTION, ADDRESS, flags=0x8185), None),
    "an authoritative answer without recursion": (by_hand(QUESTION, ADDRESS, flags=0x8400), None),
    "a query": (by_hand(QUESTION, counts="1 0 0", flags=0x0100), "query"),
    "a query with answers": (by_hand(QUESTION, ADDRESS, flags=0x0100), "query"),
    "a query whose question is cut short": (by_hand(QUESTION[:5], counts="1 0 0", flags=0x0100), "other_query"),
    "IQUERY": (by_hand(QUESTION, ADDRESS, flags=0x8980), "opcode"),
    "UPDATE": (by_hand(QUESTION, ADDRESS, flags=0xA980), "opcode"),
    "multicast DNS without a question": (
        by_hand(b"", record(wire("a.local"), A, ONE), counts="0 1 0"),
        "question_count",
    ),
    "two questions": (by_hand(QUESTION + QUESTION, ADDRESS, counts="2 1 0"), "question_count"),
    "class CH": (by_hand(asked(wire("q.example"), A, 3), ADDRESS), "class"),
    "class ANY": (by_hand(asked(wire("q.example"), A, 255), ADDRESS), "class"),
    "multicast DNS that asks for a unicast response": (by_hand(asked(wire("q.example"), A, 0x8001), ADDRESS), "class"),
    "shorter than a header": (bytes(11), "bad_message"),
    "a question that is cut short": (by_hand(QUESTION[:5], counts="1 1 0"), "bad_message"),
    "no answers": (by_hand(QUESTION), "no_answer"),
    "only additional records": (by_hand(QUESTION, ADDRESS, counts="1 0 1"), "no_answer"),
}


@pytest.mark.parametrize(("payload", "reason"), MESSAGES.values(), ids=MESSAGES)
def test_which_messages_count(payload: bytes, reason: str | None) -> None:
    """Responses to one question of class IN with an answer count, whatever their rcode; others have a reason."""
    image = Image()
    assert image.feed(0, payload).admitted is (reason is None)
    assert image.counters == {"messages": 1, reason or "related": 1}


def test_an_answer_without_relations_counts_and_changes_nothing() -> None:
    """A response with records that make no relation is admitted, and counted as such."""
    image = Image()
    assert image.feed(0, by_hand(QUESTION, record(b"\xc0\x0c", TXT, b"\1x"))).admitted
    assert (image.counters, image.roots()) == ({"messages": 1, "unrelated": 1}, [])


SERVER, HOST, GROUP = bytes([10, 0, 0, 53]), bytes([10, 0, 0, 2]), bytes([224, 0, 0, 251])
PORTS = {
    "a response to the port of LLMNR": (Flow(SERVER, 53, HOST, 5355), 0x8180, "related"),
    "a response from the port of LLMNR": (Flow(SERVER, 5355, HOST, 53), 0x8180, "multicast"),
    "a response to the port of multicast DNS": (Flow(SERVER, 53, HOST, 5353), 0x8180, "related"),
    "a response to the group of multicast DNS": (Flow(SERVER, 5353, GROUP, 5353), 0x8180, "multicast"),
    "a query from the port of LLMNR": (Flow(HOST, 5355, SERVER, 53), 0x0100, "query"),
    "a query to the port of LLMNR": (Flow(HOST, 53, SERVER, 5355), 0x0100, "multicast"),
}


@pytest.mark.parametrize(("flow", "flags", "outcome"), PORTS.values(), ids=PORTS)
def test_the_port_of_the_responder_shows_llmnr(flow: Flow, flags: int, outcome: str) -> None:
    """A message is LLMNR by the port of the responder. The port of a client can be any port."""
    image = Image()
    image.feed(0, by_hand(QUESTION, ADDRESS, flags=flags), Circumstances(flow))
    assert image.counters == {"messages": 1, outcome: 1}


@dataclass(frozen=True)
class Case:
    """A response, the relations that it makes, and the number of foreign records."""

    says: str
    question: str
    records: list[str]
    relations: list[str]
    foreign: int = 0


CASES = [
    Case("an address", "a A", records=["a A 1.1.1.1"], relations=["a A 1.1.1.1 300"]),
    Case("an IPv6 address", "a AAAA", records=[f"a AAAA {V6}"], relations=[f"a AAAA {V6} 300"]),
    Case("an IPv4-mapped address", "a AAAA", records=["a AAAA ::ffff:1.1.1.1"], relations=["a AAAA 1.1.1.1 300"]),
    Case("mixed case", "A.Com A", records=["a.cOM A 1.1.1.1"], relations=["a.com A 1.1.1.1 300"]),
    Case("a type that was not asked for", "a TXT", records=["a A 1.1.1.1"], relations=["a A 1.1.1.1 300"]),
    Case("types without relations", "a ANY", records=["a TXT x", "a NS ns.a", "a DNAME b"], relations=[]),
    Case(
        "a DNAME is covered by its alias",
        "x.a A",
        records=["a DNAME b", "x.a CNAME x.b", "x.b A 1.1.1.1"],
        relations=["x.a CNAME x.b 300", "x.b A 1.1.1.1 300"],
    ),
    Case(
        "each record has its own TTL, and the longer one counts",
        "a A",
        records=["a A 1.1.1.1 ttl=1", "a A 1.1.1.2 ttl=2", "a A 1.1.1.1 ttl=3"],
        relations=["a A 1.1.1.1 3", "a A 1.1.1.2 2"],
    ),
    Case("an address of another name", "a A", records=["b A 1.1.1.1"], relations=[], foreign=1),
    Case(
        "an address of another name among the question's",
        "a A",
        records=["b A 6.6.6.6", "a A 1.1.1.1", "bank.com A 6.6.6.6"],
        relations=["a A 1.1.1.1 300"],
        foreign=2,
    ),
    Case("a parent's address", "www.a A", records=["a A 1.1.1.1"], relations=[], foreign=1),
    Case(
        "an alias that leads to the question",
        "b A",
        records=["a CNAME b", "b A 1.1.1.1"],
        relations=["b A 1.1.1.1 300"],
        foreign=1,
    ),
    Case(
        "an island of two foreign names",
        "a A",
        records=["x CNAME y", "y CNAME x", "a A 1.1.1.1"],
        relations=["a A 1.1.1.1 300"],
        foreign=2,
    ),
    Case(
        "an alias of itself",
        "a A",
        records=["a CNAME a", "a A 1.1.1.1"],
        relations=["a CNAME a 300", "a A 1.1.1.1 300"],
    ),
    Case(
        "a mail exchange and its address",
        "a MX",
        records=["a MX m.b", "m.b A 1.1.1.1"],
        relations=["a MX m.b 300", "m.b A 1.1.1.1 300"],
    ),
    Case(
        "a service and its address",
        "_x._tcp.a SRV",
        records=["_x._tcp.a SRV s.b", f"s.b AAAA {V6}"],
        relations=["_x._tcp.a SRV s.b 300", f"s.b AAAA {V6} 300"],
    ),
    Case("a null MX", "a MX", records=["a MX 0 ."], relations=[]),
    Case("a service that does not exist", "a SRV", records=["a SRV 0 0 0 ."], relations=[]),
    Case(
        "SVCB in AliasMode",
        "a SVCB",
        records=["a SVCB 0 b", "b A 1.1.1.1"],
        relations=["a SVCB b 300", "b A 1.1.1.1 300"],
    ),
    Case("HTTPS in AliasMode to nowhere", "a HTTPS", records=["a HTTPS 0 ."], relations=[]),
    Case("HTTPS without target or hints", "a HTTPS", records=["a HTTPS 1 . alpn=h2"], relations=[]),
    Case(
        "hints of the owner",
        "a HTTPS",
        records=[f"a HTTPS 1 . ipv4hint=1.1.1.1,1.1.1.2 ipv6hint={V6}"],
        relations=["a HTTPS 1.1.1.1 300", "a HTTPS 1.1.1.2 300", f"a HTTPS {V6} 300"],
    ),
    Case(
        "hints of the target",
        "a HTTPS",
        records=["a HTTPS 1 b ipv4hint=1.1.1.1"],
        relations=["a HTTPS b 300", "b HTTPS 1.1.1.1 300"],
    ),
    Case("hints of another name", "a HTTPS", records=["c HTTPS 1 a ipv4hint=1.1.1.1"], relations=[], foreign=1),
    Case("hints of a literal", "a HTTPS", records=["a HTTPS 1 1.1.1.1 ipv4hint=1.1.1.2"], relations=[]),
    Case(
        "the target of a binding is reached",
        "a HTTPS",
        records=["a HTTPS 1 b ipv4hint=1.1.1.1 ttl=60", "b A 1.1.1.1 ttl=30"],
        relations=["a HTTPS b 60", "b HTTPS 1.1.1.1 60", "b A 1.1.1.1 30"],
    ),
    Case("an alias to a literal", "a A", records=["a CNAME 1.1.1.1", "1.1.1.1 A 2.2.2.2"], relations=[], foreign=1),
    Case("an alias to a reverse name", "a A", records=["a CNAME 1.1.1.1.in-addr.arpa"], relations=[]),
    Case("an alias to the root", "a A", records=["a CNAME .", ". A 1.1.1.1"], relations=[], foreign=1),
    Case("an exchange that is a literal", "a MX", records=["a MX 1.1.1.1", "a MX m"], relations=["a MX m 300"]),
    Case("a question about a literal", "1.1.1.1 A", records=["1.1.1.1 A 2.2.2.2"], relations=[], foreign=1),
    Case("a question about the root", ". A", records=[". A 1.1.1.1"], relations=[], foreign=1),
    Case("a PTR of a name", "a PTR", records=["a PTR b"], relations=[]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_records_become_relations(case: Case) -> None:
    """A response makes the expected relations in order, and its foreign records are counted."""
    _, edges, counters = relations_of(response_to(case.question, *case.records))
    assert edges == case.relations
    assert counters["foreign_record"] == case.foreign


ANY_ORDER = {
    "a chain": ("a A", ["a CNAME b", "b CNAME c", "c A 1.1.1.1", "x A 6.6.6.6"]),
    "kinds mixed": ("a ANY", ["a MX b", "b CNAME c", "c HTTPS 1 d", "d A 1.1.1.1"]),
}


@pytest.mark.parametrize(("question", "records"), ANY_ORDER.values(), ids=ANY_ORDER)
def test_records_may_come_in_any_order(question: str, records: list[str]) -> None:
    """The same records make the same relations in any order."""
    expected = sorted(relations_of(response_to(question, *records))[1])
    assert len(expected) >= 2
    for order in permutations(records):
        assert sorted(relations_of(response_to(question, *order))[1]) == expected


def test_the_root_is_the_name_that_was_asked() -> None:
    """The query root is the name in the question, in the form of the image."""
    assert relations_of(response_to("A.Com A", "a.com A 1.1.1.1"))[0] == "a.com"


def test_only_the_answer_section_is_read() -> None:
    """Records of the authority and additional sections make no relation, even about the question's name."""
    payload = by_hand(QUESTION, ADDRESS, record(P, A, bytes([6, 6, 6, 6])), counts="1 1 1")
    assert relations_of(payload)[1] == ["q.example A 1.1.1.1 300"]


@pytest.mark.parametrize(("klass", "kept"), [(1, 2), (3, 1), (255, 1), (0x8001, 1)])
def test_only_records_of_class_in_count(klass: int, kept: int) -> None:
    """A record of another class makes no relation, even with the cache-flush bit of multicast DNS."""
    assert len(relations_of(by_hand(QUESTION, ADDRESS, record(P, A, bytes(4), klass=klass)))[1]) == kept


@pytest.mark.parametrize(
    ("ttl", "expected"),
    [
        (0, 0),
        (1, 1),
        (MAX_TTL, MAX_TTL),
        (MAX_TTL + 1, MAX_TTL),
        (2**31 - 1, MAX_TTL),
        (2**31, 0),
        (2**32 - 1, 0),
    ],
)
def test_how_a_ttl_counts(ttl: int, expected: int) -> None:
    """A TTL counts as at most 7 days, and as 0 from 2^31 on (RFC 2181)."""
    assert life(ttl) == expected * SECOND
    assert relations_of(by_hand(QUESTION, record(P, A, ONE, ttl)))[1] == [f"q.example A 1.1.1.1 {expected}"]


def test_the_flags_of_a_response_do_not_matter() -> None:
    """TC, AA and the rcode do not change the relations."""
    plain = relations_of(response_to("a A", "a A 1.1.1.1"))
    for flags in (dns.flags.TC, dns.flags.AA, *range(1, 12)):
        assert relations_of(response_to("a A", "a A 1.1.1.1", flags=flags)) == plain


OWN_ONLY = {
    "an address of the question": ("a A", ["a A 1.1.1.1"], ["a A 1.1.1.1 300"]),
    "an alias and its address": ("a A", ["a CNAME b", "b A 6.6.6.6"], ["a CNAME b 300"]),
    "a reverse name": ("4.3.2.1.in-addr.arpa PTR", ["4.3.2.1.in-addr.arpa PTR h"], ["1.2.3.4 PTR h 300"]),
    "a reverse name through an alias": (
        "4.3.2.1.in-addr.arpa PTR",
        ["4.3.2.1.in-addr.arpa CNAME x", "x PTR h"],
        [],
    ),
}


@pytest.mark.parametrize(("question", "records", "relations"), OWN_ONLY.values(), ids=OWN_ONLY)
def test_of_some_answers_only_the_questions_own_records_count(question, records, relations) -> None:
    """With `own_only` the records of other names make no relation."""
    assert relations_of(response_to(question, *records), own_only=True)[1] == relations


@pytest.mark.parametrize(
    ("flags", "role", "egress", "kept"),
    [
        (0x8400, "forwarder", False, "own"),
        (0x8400, "forwarder", True, "all"),
        (0x8400, "client", False, "all"),
        (0x8480, "forwarder", False, "all"),
        (0x8180, "forwarder", False, "all"),
        (0x8000, "forwarder", False, "all"),
        (0x8600, "forwarder", False, "own"),
    ],
)
def test_of_an_authoritative_answer_to_a_forwarder_only_own_records_count(flags, role, egress, kept) -> None:
    """Where a forwarder receives an answer with AA and without RA, only the question's own records count."""
    image = Image()
    chain = record(P, CNAME, b"\x01b\x00"), record(b"\x01b\x00", A, bytes([6, 6, 6, 6]))
    flow = Flow(bytes([10, 0, 0, 53]), 53, bytes([10, 0, 0, 2]), 40000, role=role, egress=egress)
    image.feed(0, by_hand(QUESTION, *chain, flags=flags), Circumstances(flow))
    assert image.get("q.example", at=0).dns_queries == ["q.example", "b"]
    assert (image.get("6.6.6.6", at=0) is None) is (kept == "own")
    assert image.counters["foreign_record"] == int(kept == "own")


@pytest.mark.parametrize("records", [3, 4])
def test_the_first_relations_of_a_large_answer_count(records) -> None:
    """Of one answer the first relations up to the bound count; the others are counted."""
    lines = [f"a A 1.1.1.{number}" for number in range(records)]
    counters: Counter[str] = Counter()
    stated = relate(decode(response_to("a", *lines)), counters, 3)
    assert [target for _, _, target in stated.edges] == ["1.1.1.0", "1.1.1.1", "1.1.1.2"]
    assert counters["evicted_owned"] == records - 3


def test_the_first_hints_of_a_service_binding_count() -> None:
    """Address hints beyond the bound of one record make no relation, and are counted."""
    values = b"".join(number.to_bytes(4) for number in range(MAX_HINTS + 9))
    binding = record(P, SVCB, b"\x00\x01\x00\x00\x04" + len(values).to_bytes(2) + values)
    counters: Counter[str] = Counter()
    stated = relate(decode(by_hand(QUESTION, binding)), counters, MAX_HINTS)
    assert (len(stated.edges), counters["evicted_owned"]) == (MAX_HINTS, 9)
