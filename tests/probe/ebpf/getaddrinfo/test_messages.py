from __future__ import annotations

import socket
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnstrail.dns.names import lookup_key, packed_address_text
from dnstrail.image import Circumstances, Image
from dnstrail_probe.ebpf.getaddrinfo.messages import outcome, responses

UNSPEC, ERRORS = 0, (-2, -3, -4, -5, -9)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(lambda address: address.packed)


def told(name: str, *addresses: str, error: int = 0, family: int = UNSPEC) -> list[dns.message.Message]:
    """The messages that tell of a call."""
    packed = [ip_address(address).packed for address in addresses]
    return [dns.message.from_wire(wire) for wire in responses(name, packed, error, family)]


def test_each_kind_of_address_has_a_response():
    """Addresses of both kinds are told in an A and in an AAAA response, in the order in which they came."""
    first, second = told("a.test", "192.0.2.2", "2001:db8::1", "192.0.2.1")
    assert [question.to_text() for question in (*first.question, *second.question)] == [
        "a.test. IN A",
        "a.test. IN AAAA",
    ]
    assert [rdata.to_text() for rdata in first.answer[0]] == ["192.0.2.2", "192.0.2.1"]
    assert [rdata.to_text() for rdata in second.answer[0]] == ["2001:db8::1"]
    assert first.flags & dns.flags.QR


def test_a_mapped_address_is_one_of_ipv4():
    """An IPv4 address that was asked for as IPv6 (AI_V4MAPPED) is told as what it is."""
    (message,) = told("a.test", "::ffff:192.0.2.1", family=socket.AF_INET6)
    assert message.question[0].rdtype == dns.rdatatype.A


@pytest.mark.parametrize(
    ("error", "called", "rcode"),
    [
        (-2, "EAI_NONAME", dns.rcode.NXDOMAIN),
        (-3, "EAI_AGAIN", dns.rcode.SERVFAIL),
        (-4, "EAI_FAIL", dns.rcode.SERVFAIL),
        (-5, "EAI_NODATA", dns.rcode.NOERROR),
        (-9, "EAI_ADDRFAMILY", dns.rcode.NOERROR),
    ],
)
def test_a_failure_is_told_for_each_kind_that_was_asked_for(error, called, rcode):
    """A name that has no address, or cannot be resolved now, is told by the code that DNS has for that."""
    assert outcome(error) == called
    messages = told("a.test", error=error)
    assert [message.question[0].rdtype for message in messages] == [dns.rdatatype.A, dns.rdatatype.AAAA]
    assert {(message.rcode(), len(message.answer)) for message in messages} == {(rcode, 0)}
    (only,) = told("a.test", error=error, family=socket.AF_INET6)
    assert only.question[0].rdtype == dns.rdatatype.AAAA


@pytest.mark.parametrize("error", [-1, -6, -7, -8, -10, -11, -12, 1, 99])
def test_an_error_of_the_caller_tells_nothing_of_the_name(error):
    """Bad flags, services and the like have no outcome."""
    assert outcome(error) == ""


@pytest.mark.parametrize("name", ["192.0.2.1", "2001:db8::1", "4.3.2.1.in-addr.arpa"])
def test_what_is_no_name_is_not_told(name):
    """An address literal that was brought into the form of an address is nothing that was resolved."""
    assert told(name, "192.0.2.1") == []


@pytest.mark.parametrize("name", ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "1", "192.0.2.1"])
def test_a_number_is_no_name(name):
    """An IPv4 address in one of its older spellings was not resolved either."""
    assert told(name, "127.0.0.1") == []


@pytest.mark.parametrize("name", ["1a", "127.1.test", "0x", "1.2.3.4.5", "x1"])
def test_a_name_that_begins_like_a_number(name):
    """What getaddrinfo takes for a name is one."""
    assert len(told(name, "192.0.2.1")) == 1


def test_a_success_without_addresses_is_not_told_as_a_failure():
    """Where no address could be read, nothing is made up."""
    assert told("a.test") == []


@given(st.text(max_size=300), st.lists(ADDRESSES, max_size=64), st.sampled_from([0, *ERRORS]), st.integers(0, 12))
def test_whatever_a_program_asks(name, addresses, error, family):
    """Any text that is a name gives messages that dnspython reads and the image takes in, with each address once."""
    key = lookup_key(name)
    if key is None:
        return
    image, addresses = Image(), [] if error else addresses
    for wire in responses(key, dict.fromkeys(addresses), error, family):
        assert dns.message.from_wire(wire).to_wire()
        image.feed(1.0, wire, Circumstances(asked=True))
    assert image.counters["bad_message"] == image.counters["not_admitted"] == 0
    found = image.get(key, now=1.0)
    if found is not None:
        assert sorted(found.ip_addresses) == sorted({packed_address_text(address) for address in addresses})
