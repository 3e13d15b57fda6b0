"""The subjects of detections: parties, registered domains, and kinds of addresses."""

from __future__ import annotations

import msgspec
import pytest

from dnstrail.captured import SERVER, Captured, Flow, Process
from dnstrail.events import NET_PACKET_DNS, NET_TCP_CONNECT, Event
from dnstrail.registered_domain import octets_below, registered_domain
from dnstrail.testing import dns_query, dns_response
from dnstrail_signatures.detection.subjects import covered_by, is_inner, is_public, party_of

CLIENT, SERVER_ADDRESS = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 53])
THERE, BACK = Flow(CLIENT, 4000, SERVER_ADDRESS, 53), Flow(SERVER_ADDRESS, 53, CLIENT, 4000)


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("a.b.example.co.uk", "example.co.uk"),
        ("example.com", "example.com"),
        ("com", ""),
        ("", ""),
        ("x.github.io", "x.github.io"),
        ("tunnel.corp", "tunnel.corp"),
        ("1.2.0.192.in-addr.arpa", ""),
        (r"a.evil\.example.com", r"evil\.example.com"),
        (r"a.go\000gle.co.uk", r"go\000gle.co.uk"),
        (r"\042.sea", r"\042.sea"),
        (r"a.b\228\\.pirate.sea", "pirate.sea"),
    ],
)
def test_the_registered_domain_of_a_name(name, domain):
    """It is one label below the public suffix; reverse names and suffixes have none."""
    assert registered_domain(name) == domain


def test_octets_are_counted_without_escapes():
    """An escaped octet is one octet."""
    assert octets_below(r"a\228\.b.example.com", "example.com") == 4
    assert octets_below("example.com", "example.com") == 0
    assert octets_below(r"ab.ex\042mple.com", r"ex\042mple.com") == 2


@pytest.mark.parametrize(
    ("address", "inner", "public"),
    [
        ("10.1.2.3", True, False),
        ("127.0.0.1", True, False),
        ("100.64.0.1", True, False),
        ("169.254.169.254", True, False),
        ("0.0.0.0", True, False),
        ("::1", True, False),
        ("fd00::1", True, False),
        ("fe80::1", True, False),
        ("93.184.215.14", False, True),
        ("2606:4700::1111", False, True),
        ("224.0.0.251", False, False),
        ("203.0.113.80", False, False),
    ],
)
def test_addresses_are_inner_or_public(address, inner, public):
    """Addresses of a host, a link or a site are inner; those that the internet routes to one host are public."""
    assert (is_inner(address), is_public(address)) == (inner, public)


def test_a_name_is_covered_by_whole_labels():
    """A name covers itself and the names below it."""
    assert [covered_by(name, {"evil.com"}) for name in ("evil.com", "a.b.evil.com", "notevil.com", "com")] == [
        "evil.com",
        "evil.com",
        None,
        None,
    ]


def captured(flow, payload=b"", process=None, name=NET_PACKET_DNS):
    return Event(name, Captured(1, payload, flow, process), ("s", 1), "host")


def test_the_party_is_the_program():
    """Processes of one program are one party, on each host and in each container."""
    first, second = Process(7, "dig", "/usr/bin/dig", start_time=1), Process(8, "dig", "/usr/bin/dig", start_time=2)
    assert party_of(captured(THERE, process=first)) == party_of(captured(THERE, process=second))
    other = msgspec.structs.replace(first, container_id="c0ffee")
    assert party_of(captured(THERE, process=first)) != party_of(captured(THERE, process=other))


def test_the_party_without_a_process_is_the_client():
    """A query, its response and a connection of one client have one party; a server acts for its client."""
    query, response = dns_query("a.com").captured.payload, dns_response("a.com").captured.payload
    served = msgspec.structs.replace(THERE, role=SERVER)
    parties = {
        party_of(captured(THERE, query)),
        party_of(captured(BACK, response)),
        party_of(captured(THERE, name=NET_TCP_CONNECT)),
        party_of(captured(served, query, Process(9, "named", "/usr/sbin/named"))),
    }
    assert len(parties) == 1


def test_a_message_is_a_query_or_a_response():
    """`asked` and `answered` each read one kind of message, at its asker alone."""
    query, response = dns_query("a.com"), dns_response("a.com")
    assert (query.asked.name, query.answered) == ("a.com", None)
    assert (response.asked, response.answered.name) == (None, "a.com")
    again = msgspec.structs.replace(query.captured, args={"asker_seen": True})
    assert Event(NET_PACKET_DNS, again).asked is None
