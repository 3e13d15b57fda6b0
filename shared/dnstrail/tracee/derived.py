"""The events that tracee derives from a DNS packet: net_packet_dns_request and net_packet_dns_response."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Any

from dnstrail.captured import Flow
from dnstrail.dns import is_response
from dnstrail.events import NET_PACKET_DNS, NET_PACKET_DNS_REQUEST, NET_PACKET_DNS_RESPONSE, Event
from dnstrail.tracee.proto_dns import Fields, shown_message

_PROTOCOLS = {"udp": 17, "tcp": 6}  # RFC 5237
_TRANSPORT_HEADER = {"udp": 8, "tcp": 20}  # bytes
_IPV4_HEADER, _IPV4_ADDRESS = 20, 4  # bytes
_ANSWER_FIELDS = {"A": "IP", "AAAA": "IP", "NS": "NS", "CNAME": "CNAME", "PTR": "PTR", "TXT": "TXT"}


def derived_events(event: Event, wanted: Container[str]) -> list[Event]:
    """Return those of the wanted events that an event leads to: at most one, and none unless it is a DNS packet.

    As in tracee, a message with any other number of questions than one leads to none, nor does a response whose
    answers cannot all be read, nor a packet with an impossible address.
    """
    payload = event.captured.payload
    name = NET_PACKET_DNS_RESPONSE if is_response(payload) else NET_PACKET_DNS_REQUEST
    if event.event_name != NET_PACKET_DNS or name not in wanted:
        return []
    message, _ = shown_message(payload)
    if message is None or message["QDCount"] != 1 or len(message["questions"]) != 1:
        return []
    if name == NET_PACKET_DNS_RESPONSE and len(message["answers"]) != message["ANCount"]:
        return []
    try:
        metadata = _metadata(event.captured.flow, len(payload))
    except (LookupError, ValueError):  # an address or a transport that no probe of ours sends
        return []
    return [replace(event, event_name=name, args={"metadata": metadata, **_dns_args(name, message)})]


def _dns_args(name: str, message: dict[str, Any]) -> dict[str, Any]:
    [question] = message["questions"]
    query = {
        "query": question["name"],
        "query_type": question["type"],
        "query_class": question["class"],
    }
    if name == NET_PACKET_DNS_REQUEST:
        return {"dns_questions": [query]}
    return {"dns_response": [{"query_data": query, "dns_answer": list(map(_answer, message["answers"]))}]}


def _answer(record: Fields) -> Fields:
    kind = record["type"]
    if kind == "MX":
        answer = record["MX"]["name"]
    else:
        answer = record[_ANSWER_FIELDS[kind]] if kind in _ANSWER_FIELDS else "not implemented"  # tracee's word
    return {"answer_type": kind, "ttl": record["TTL"], "answer": answer}


def _metadata(flow: Flow | None, size: int) -> Fields:
    """Return tracee's PktMeta: zero values for a message that no captured packet carried.

    `packet_len` is what tracee takes from the IP header: the total length in IPv4, the length of the payload in IPv6.
    It is computed for one packet that carries the whole message and no options.
    """
    known = flow if flow is not None and flow.source else None
    length = 0
    if known is not None:
        length = size + _TRANSPORT_HEADER[known.transport]
        length += _IPV4_HEADER if len(known.source) == _IPV4_ADDRESS else 0
    return {
        "src_ip": known.source_text if known else "",
        "dst_ip": known.destination_text if known else "",
        "src_port": known.source_port if known else 0,
        "dst_port": known.destination_port if known else 0,
        "protocol": _PROTOCOLS[known.transport] if known else 0,
        "packet_len": length,
        "iface": "any",
    }
