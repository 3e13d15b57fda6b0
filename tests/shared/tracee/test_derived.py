"""The events that tracee derives from a DNS packet."""

from __future__ import annotations

from typing import Any

import pytest

from builders.dns_builders import A, asked, by_hand, record, response_to, wire
from builders.hostile import ONE, QUESTION, P
from dnstrail.captured import Captured, Flow
from dnstrail.events import (
    DERIVED,
    NET_PACKET_DNS,
    NET_PACKET_DNS_REQUEST,
    NET_PACKET_DNS_RESPONSE,
    NET_TCP_CONNECT,
    SCHED_PROCESS_EXIT,
    Event,
    topics_of,
)
from dnstrail.tracee.derived import derived_events
from dnstrail.tracee.event_shape import event_map

QUERY = by_hand(asked(wire("a.com"), 28), flags=0x0100)
V4 = Flow(bytes([10, 0, 0, 2]), 40000, bytes([10, 0, 0, 53]), 53)
V6 = Flow(bytes(15) + b"\1", 40000, bytes(15) + b"\2", 53, "tcp")


def packet(payload: bytes, flow: Flow | None = V4, name: str = NET_PACKET_DNS) -> Event:
    """Return an event with a DNS message."""
    return Event(name, Captured(7, payload, flow, args={"foreign": False}), ("s", 1), "host1", coverage=0.5)


def derived(event: Event) -> Event:
    """Return the one event that an event leads to."""
    [one] = derived_events(event, DERIVED)
    return one


def test_a_query_is_a_request_event() -> None:
    """A query leads to net_packet_dns_request with tracee's two arguments and id, and the rest of its packet."""
    event = derived(packet(QUERY))
    shaped = event_map(event)
    assert (shaped["eventName"], shaped["eventId"], shaped["argsNum"]) == ("net_packet_dns_request", "2007", 2)
    assert shaped["args"] == [
        {
            "name": "metadata",
            "type": "trace.PktMeta",
            "value": {
                "src_ip": "10.0.0.2",
                "dst_ip": "10.0.0.53",
                "src_port": 40000,
                "dst_port": 53,
                "protocol": 17,
                "packet_len": len(QUERY) + 28,
                "iface": "any",
            },
        },
        {
            "name": "dns_questions",
            "type": "[]trace.DnsQueryData",
            "value": [{"query": "a.com", "query_type": "AAAA", "query_class": "IN"}],
        },
    ]
    assert (event.mark, event.host_name, event.coverage, event.timestamp) == (("s", 1), "host1", 0.5, 7)
    assert event.arg("dns_questions")[0]["query"] == "a.com"


ANSWERS = {
    "a.com A 1.1.1.1": ("A", "1.1.1.1"),
    "a.com AAAA 2001:db8::1": ("AAAA", "2001:db8::1"),
    "a.com NS ns.a.com": ("NS", "ns.a.com"),
    "a.com CNAME b.com": ("CNAME", "b.com"),
    "a.com PTR b.com": ("PTR", "b.com"),
    "a.com MX 10 mx.a.com": ("MX", "mx.a.com"),
    "a.com TXT hello": ("TXT", "\x05hello"),
    "a.com SRV 1 2 443 s.a.com": ("SRV", "not implemented"),
}


def test_a_response_is_a_response_event() -> None:
    """A response leads to net_packet_dns_response with its question and, as tracee writes them, its answers."""
    shaped = event_map(derived(packet(response_to("a.com ANY", *ANSWERS, ttl=60))))
    assert (shaped["eventName"], shaped["eventId"]) == ("net_packet_dns_response", "2008")
    assert shaped["args"][1] == {
        "name": "dns_response",
        "type": "[]trace.DnsResponseData",
        "value": [
            {
                "query_data": {"query": "a.com", "query_type": "Unknown", "query_class": "IN"},
                "dns_answer": [{"answer_type": kind, "ttl": 60, "answer": text} for kind, text in ANSWERS.values()],
            }
        ],
    }


def test_a_response_without_answers_is_an_event_too() -> None:
    """A response that has no answers, such as NXDOMAIN, leads to an event with an empty list."""
    [response] = derived(packet(response_to("a.com", flags=3))).arg("dns_response")
    assert response["dns_answer"] == []


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (V6, {"src_ip": "::1", "protocol": 6, "packet_len": len(QUERY) + 20}),
        (None, {"src_ip": "", "dst_ip": "", "src_port": 0, "dst_port": 0, "protocol": 0, "packet_len": 0}),
    ],
    ids=["TCP over IPv6", "no packet"],
)
def test_the_metadata_of_other_packets(flow: Flow | None, expected: dict[str, Any]) -> None:
    """The length is the payload of IPv6; an answer that no packet carried has zero values."""
    metadata = derived(packet(QUERY, flow)).arg("metadata")
    assert {key: metadata[key] for key in expected} == expected


@pytest.mark.parametrize(
    "event",
    [
        packet(by_hand(QUESTION + QUESTION, counts="2 0 0")),
        packet(by_hand(b"", counts="0 0 0")),
        packet(by_hand(QUESTION, record(P, A, ONE), counts="1 2 0")),
        packet(QUERY[:-1]),
        packet(b""),
        packet(b"\0" * 5),
        packet(QUERY, name=NET_TCP_CONNECT),
    ],
    ids=["two questions", "none", "an answer is missing", "cut short", "empty", "no header", "another event"],
)
def test_other_messages_lead_to_no_event(event: Event) -> None:
    """A message that tracee drops leads to no derived event, nor does an event that is no DNS packet."""
    assert derived_events(event, DERIVED) == []


@pytest.mark.parametrize(
    "flow",
    [Flow(b"123", 1, V4.destination, 53), Flow(V4.source, 1, b"", 53), Flow(V4.source, 1, V4.destination, 53, "sctp")],
)
def test_an_impossible_flow_leads_to_no_event(flow: Flow) -> None:
    """A packet with an address or a transport that no probe sends leads to none, and raises nothing."""
    assert derived_events(packet(QUERY, flow), DERIVED) == []


def test_only_wanted_events_are_derived() -> None:
    """A query leads to nothing where only responses are wanted, and the other way round."""
    assert derived_events(packet(QUERY), {NET_PACKET_DNS_RESPONSE}) == []
    assert derived_events(packet(response_to("a.com")), {NET_PACKET_DNS_REQUEST}) == []
    assert derived_events(packet(QUERY), ()) == []


def test_a_derived_event_travels_as_its_packet() -> None:
    """Whoever wants a derived event subscribes to DNS packets, once."""
    assert topics_of([NET_PACKET_DNS_REQUEST, SCHED_PROCESS_EXIT]) == (NET_PACKET_DNS, SCHED_PROCESS_EXIT)
    assert topics_of([NET_PACKET_DNS, *DERIVED]) == (NET_PACKET_DNS,)
    assert topics_of([]) == ()
