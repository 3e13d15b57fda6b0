"""The relations of answers to reverse questions (RFC 2317).

Tests of dnstrail.image.lookup.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import pytest

from builders.dns_builders import relations_of, response_to

V6 = "2001:db8::1"
NIBBLES = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"


@dataclass(frozen=True)
class Case:
    """A response, the relations that it makes, and the numbers of foreign and unusable records."""

    says: str
    question: str
    records: list[str]
    relations: list[str]
    foreign: int = 0
    unusable: int = 0


CASES = [
    Case("DNS-SD", "_http._tcp.local PTR", records=["_http._tcp.local PTR x._http._tcp.local"], relations=[]),
    Case(
        "DNS-SD of a reverse zone",
        "b._dns-sd._udp.0.0.10.in-addr.arpa PTR",
        records=["b._dns-sd._udp.0.0.10.in-addr.arpa PTR a"],
        relations=[],
        unusable=1,
    ),
    Case("a PTR of a literal", "1.1.1.1 PTR", records=["1.1.1.1 PTR a"], relations=[], foreign=1),
    Case(
        "a PTR", "4.3.2.1.in-addr.arpa PTR", records=["4.3.2.1.IN-ADDR.arpa PTR H.a"], relations=["1.2.3.4 PTR h.a 300"]
    ),
    Case("a PTR of an IPv6 address", f"{NIBBLES} PTR", records=[f"{NIBBLES} PTR h.a"], relations=[f"{V6} PTR h.a 300"]),
    Case(
        "a PTR beside other records",
        "4.3.2.1.in-addr.arpa ANY",
        records=[
            "4.3.2.1.in-addr.arpa A 6.6.6.6",
            "4.3.2.1.in-addr.arpa PTR h.a",
            "h.a A 6.6.6.6",
            "4.3.2.1.in-addr.arpa MX h.a",
        ],
        relations=["1.2.3.4 PTR h.a 300"],
        unusable=3,
    ),
    Case(
        "a PTR of another address",
        "4.3.2.1.in-addr.arpa PTR",
        records=["5.3.2.1.in-addr.arpa PTR h.a"],
        relations=[],
        unusable=1,
    ),
    Case(
        "a PTR to the root, a literal, a reverse name",
        "4.3.2.1.in-addr.arpa PTR",
        records=[f"4.3.2.1.in-addr.arpa PTR {target}" for target in (".", "1.1.1.1", "4.3.2.1.in-addr.arpa")],
        relations=[],
        unusable=3,
    ),
    Case(
        "a classless delegation (RFC 2317)",
        "4.3.2.1.in-addr.arpa PTR",
        records=[
            "4.3.2.1.in-addr.arpa CNAME 4.0/25.3.2.1.in-addr.arpa ttl=60",
            "4.0/25.3.2.1.in-addr.arpa PTR h.a ttl=900",
        ],
        relations=["1.2.3.4 PTR h.a 60"],
        unusable=1,
    ),
    Case(
        "a delegation to another zone",
        "4.3.2.1.in-addr.arpa PTR",
        records=["4.3.2.1.in-addr.arpa CNAME 4.rev.a ttl=900", "4.rev.a PTR h.a ttl=60", "4.rev.a A 6.6.6.6"],
        relations=["1.2.3.4 PTR h.a 60"],
        unusable=2,
    ),
    Case(
        "each PTR with the shortest TTL of its own chain",
        "4.3.2.1.in-addr.arpa PTR",
        records=[
            "4.3.2.1.in-addr.arpa CNAME x.a ttl=500",
            "4.3.2.1.in-addr.arpa PTR direct.a ttl=900",
            "x.a CNAME y.a ttl=50",
            "x.a PTR near.a ttl=600",
            "y.a PTR far.a ttl=600",
            "y.a PTR brief.a ttl=5",
        ],
        relations=[
            "1.2.3.4 PTR direct.a 900",
            "1.2.3.4 PTR near.a 500",
            "1.2.3.4 PTR far.a 50",
            "1.2.3.4 PTR brief.a 5",
        ],
        unusable=2,
    ),
    Case(
        "the longer-lived of two chains to one PTR",
        "4.3.2.1.in-addr.arpa PTR",
        records=[
            "4.3.2.1.in-addr.arpa CNAME x.a ttl=10",
            "4.3.2.1.in-addr.arpa CNAME y.a ttl=100",
            "x.a CNAME z.a ttl=900",
            "y.a CNAME z.a ttl=80",
            "z.a PTR h.a ttl=900",
        ],
        relations=["1.2.3.4 PTR h.a 80"],
        unusable=4,
    ),
    Case(
        "a short link before a long one",
        "4.3.2.1.in-addr.arpa PTR",
        records=["4.3.2.1.in-addr.arpa CNAME x.a ttl=10", "x.a CNAME y.a ttl=900", "y.a PTR h.a ttl=900"],
        relations=["1.2.3.4 PTR h.a 10"],
        unusable=2,
    ),
    Case(
        "a delegation in a circle",
        "4.3.2.1.in-addr.arpa PTR",
        records=["4.3.2.1.in-addr.arpa CNAME x.a", "x.a CNAME 4.3.2.1.in-addr.arpa", "x.a PTR h.a"],
        relations=["1.2.3.4 PTR h.a 300"],
        unusable=2,
    ),
    Case(
        "a PTR's long TTL",
        "4.3.2.1.in-addr.arpa PTR",
        records=["4.3.2.1.in-addr.arpa PTR h.a ttl=2147483647"],
        relations=["1.2.3.4 PTR h.a 604800"],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_records_become_relations(case: Case) -> None:
    """A response makes the expected relations in order, and its other records are counted."""
    _, edges, counters = relations_of(response_to(case.question, *case.records))
    assert edges == case.relations
    assert (counters["foreign_record"], counters["unusable_record"]) == (case.foreign, case.unusable)


def test_a_reverse_chain_may_come_in_any_order() -> None:
    """The same records make the same relations in any order."""
    records = ["4.3.2.1.in-addr.arpa CNAME x ttl=9", "x CNAME y ttl=7", "y PTR h ttl=8", "x PTR g"]
    for order in permutations(records):
        edges = relations_of(response_to("4.3.2.1.in-addr.arpa PTR", *order))[1]
        assert sorted(edges) == ["1.2.3.4 PTR g 9", "1.2.3.4 PTR h 7"]


@pytest.mark.parametrize(
    ("name", "address"), [("4.3.2.1.in-addr.arpa", "1.2.3.4"), ("4.3.2.1.IN-ADDR.Arpa", "1.2.3.4"), (NIBBLES, V6)]
)
def test_the_root_is_the_address_that_was_asked(name: str, address: str) -> None:
    """The query root of a reverse question is the address that its name encodes."""
    assert relations_of(response_to(f"{name} PTR", f"{name} PTR h"))[0] == address
