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
from dnstrail_probe.ebpf.getaddrinfo.calls import outcome_of, responses

UNSPEC, ERRORS = 0, (-2, -3, -4, -5, -9)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(lambda address: address.packed)


def messages_of(name: str, *addresses: str, error: int = 0, family: int = UNSPEC) -> list[dns.message.Message]:
    """Return the responses of a call."""
    packed = [ip_address(address).packed for address in addresses]
    return [dns.message.from_wire(wire) for wire in responses(name, packed, error, family, flags=0)]


def test_each_kind_of_address_has_a_response():
    """Addresses of both kinds become an A and an AAAA response, in their order."""
    first, second = messages_of("a.test", "192.0.2.2", "2001:db8::1", "192.0.2.1")
    assert [question.to_text() for question in (*first.question, *second.question)] == [
        "a.test. IN A",
        "a.test. IN AAAA",
    ]
    assert [rdata.to_text() for rdata in first.answer[0]] == ["192.0.2.2", "192.0.2.1"]
    assert [rdata.to_text() for rdata in second.answer[0]] == ["2001:db8::1"]
    assert first.flags & dns.flags.QR


def test_a_mapped_address_is_one_of_ipv4():
    """An IPv4-mapped address (AI_V4MAPPED) becomes an A record."""
    (message,) = messages_of("a.test", "::ffff:192.0.2.1", family=socket.AF_INET6)
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
def test_a_failure_has_a_response_for_each_requested_kind(error, called, rcode):
    """A failure becomes a response with the matching response code, for each requested kind."""
    assert outcome_of(error) == called
    messages = messages_of("a.test", error=error)
    assert [message.question[0].rdtype for message in messages] == [dns.rdatatype.A, dns.rdatatype.AAAA]
    assert {(message.rcode(), len(message.answer)) for message in messages} == {(rcode, 0)}
    (only,) = messages_of("a.test", error=error, family=socket.AF_INET6)
    assert only.question[0].rdtype == dns.rdatatype.AAAA


@pytest.mark.parametrize("error", [-1, -6, -7, -8, -10, -11, -12, 1, 99])
def test_an_error_of_the_caller_has_no_outcome(error):
    """Errors of the caller, such as bad flags or services, have no outcome."""
    assert outcome_of(error) == ""


@pytest.mark.parametrize("name", ["192.0.2.1", "2001:db8::1", "4.3.2.1.in-addr.arpa"])
def test_an_address_literal_yields_nothing(name):
    """An address literal yields no response."""
    assert messages_of(name, "192.0.2.1") == []


@pytest.mark.parametrize("name", ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "1", "192.0.2.1"])
def test_a_number_is_no_name(name):
    """An IPv4 address in an older spelling yields no response."""
    assert messages_of(name, "127.0.0.1") == []


@pytest.mark.parametrize("name", ["1a", "127.1.test", "0x", "1.2.3.4.5", "x1"])
def test_a_name_that_begins_like_a_number(name):
    """A name that begins like a number yields a response."""
    assert len(messages_of(name, "192.0.2.1")) == 1


def test_a_success_without_addresses_yields_nothing():
    """A success without readable addresses yields no response."""
    assert messages_of("a.test") == []


@given(st.text(max_size=300), st.lists(ADDRESSES, max_size=64), st.sampled_from([0, *ERRORS]), st.integers(0, 12))
def test_any_name(name, addresses, error, family):
    """Any name yields responses that dnspython and the image read, with each address once."""
    key = lookup_key(name)
    if key is None:
        return
    image, addresses = Image(), [] if error else addresses
    for wire in responses(key, dict.fromkeys(addresses), error, family, flags=0):
        assert dns.message.from_wire(wire).to_wire()
        image.feed(1.0, wire, Circumstances(asked=True))
    assert image.counters["bad_message"] == image.counters["not_admitted"] == 0
    found = image.get(key, now=1.0)
    if found is not None:
        assert sorted(found.ip_addresses) == sorted({packed_address_text(address) for address in addresses})
