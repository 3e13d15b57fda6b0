"""The relations of answers to reverse questions (DESIGN 5.3 and RFC 2317)."""

from __future__ import annotations

from itertools import permutations

import pytest

from builders.dns_builders import relations_of, response_to

V6 = "2001:db8::1"
NIBBLES = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"

# Responses: question, records, the relations they make, and the numbers of foreign and unusable records.
TOLD = {
    "DNS-SD": ("_http._tcp.local PTR", ["_http._tcp.local PTR x._http._tcp.local"], [], 0, 0),
    "DNS-SD of a reverse zone": (
        "b._dns-sd._udp.0.0.10.in-addr.arpa PTR",
        ["b._dns-sd._udp.0.0.10.in-addr.arpa PTR a"],
        [],
        0,
        1,
    ),
    "a PTR of a literal": ("1.1.1.1 PTR", ["1.1.1.1 PTR a"], [], 1, 0),
    "a PTR": ("4.3.2.1.in-addr.arpa PTR", ["4.3.2.1.IN-ADDR.arpa PTR H.a"], ["1.2.3.4 PTR h.a 300"], 0, 0),
    "a PTR of an IPv6 address": (f"{NIBBLES} PTR", [f"{NIBBLES} PTR h.a"], [f"{V6} PTR h.a 300"], 0, 0),
    "a PTR beside other records": (
        "4.3.2.1.in-addr.arpa ANY",
        [
            "4.3.2.1.in-addr.arpa A 6.6.6.6",
            "4.3.2.1.in-addr.arpa PTR h.a",
            "h.a A 6.6.6.6",
            "4.3.2.1.in-addr.arpa MX h.a",
        ],
        ["1.2.3.4 PTR h.a 300"],
        0,
        3,
    ),
    "a PTR of another address": ("4.3.2.1.in-addr.arpa PTR", ["5.3.2.1.in-addr.arpa PTR h.a"], [], 0, 1),
    "a PTR to the root, a literal, a reverse name": (
        "4.3.2.1.in-addr.arpa PTR",
        [f"4.3.2.1.in-addr.arpa PTR {target}" for target in (".", "1.1.1.1", "4.3.2.1.in-addr.arpa")],
        [],
        0,
        3,
    ),
    "a classless delegation (RFC 2317)": (
        "4.3.2.1.in-addr.arpa PTR",
        ["4.3.2.1.in-addr.arpa CNAME 4.0/25.3.2.1.in-addr.arpa ttl=60", "4.0/25.3.2.1.in-addr.arpa PTR h.a ttl=900"],
        ["1.2.3.4 PTR h.a 60"],
        0,
        1,
    ),
    "a delegation to another zone": (
        "4.3.2.1.in-addr.arpa PTR",
        ["4.3.2.1.in-addr.arpa CNAME 4.rev.a ttl=900", "4.rev.a PTR h.a ttl=60", "4.rev.a A 6.6.6.6"],
        ["1.2.3.4 PTR h.a 60"],
        0,
        2,
    ),
    "each PTR as short-lived as its own chain": (
        "4.3.2.1.in-addr.arpa PTR",
        [
            "4.3.2.1.in-addr.arpa CNAME x.a ttl=500",
            "4.3.2.1.in-addr.arpa PTR direct.a ttl=900",
            "x.a CNAME y.a ttl=50",
            "x.a PTR near.a ttl=600",
            "y.a PTR far.a ttl=600",
            "y.a PTR brief.a ttl=5",
        ],
        ["1.2.3.4 PTR direct.a 900", "1.2.3.4 PTR near.a 500", "1.2.3.4 PTR far.a 50", "1.2.3.4 PTR brief.a 5"],
        0,
        2,
    ),
    "of two chains to one PTR the longer-lived": (
        "4.3.2.1.in-addr.arpa PTR",
        [
            "4.3.2.1.in-addr.arpa CNAME x.a ttl=10",
            "4.3.2.1.in-addr.arpa CNAME y.a ttl=100",
            "x.a CNAME z.a ttl=900",
            "y.a CNAME z.a ttl=80",
            "z.a PTR h.a ttl=900",
        ],
        ["1.2.3.4 PTR h.a 80"],
        0,
        4,
    ),
    "a short link before a long one": (
        "4.3.2.1.in-addr.arpa PTR",
        ["4.3.2.1.in-addr.arpa CNAME x.a ttl=10", "x.a CNAME y.a ttl=900", "y.a PTR h.a ttl=900"],
        ["1.2.3.4 PTR h.a 10"],
        0,
        2,
    ),
    "a delegation in a circle": (
        "4.3.2.1.in-addr.arpa PTR",
        ["4.3.2.1.in-addr.arpa CNAME x.a", "x.a CNAME 4.3.2.1.in-addr.arpa", "x.a PTR h.a"],
        ["1.2.3.4 PTR h.a 300"],
        0,
        2,
    ),
    "a PTR's long TTL": (
        "4.3.2.1.in-addr.arpa PTR",
        ["4.3.2.1.in-addr.arpa PTR h.a ttl=2147483647"],
        ["1.2.3.4 PTR h.a 604800"],
        0,
        0,
    ),
}


@pytest.mark.parametrize(("question", "records", "relations", "foreign", "unusable"), TOLD.values(), ids=TOLD)
def test_which_records_become_relations(
    question: str, records: list[str], relations: list[str], foreign: int, unusable: int
) -> None:
    """A response makes the expected relations in order, and its other records are counted."""
    _, edges, counters = relations_of(response_to(question, *records))
    assert edges == relations
    assert (counters["foreign_record"], counters["unusable_record"]) == (foreign, unusable)


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
