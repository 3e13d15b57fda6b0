"""The family of DNS messages: packets, what tracee derives from them, and answers that conflict."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from dnstrail.captured import ASKER_SEEN, GETADDRINFO, RELAY
from dnstrail.events.specification import DIRECTION, FLOW, ORIGINAL, EventSpecification, Field, Line

if TYPE_CHECKING:
    from dnstrail.events.event import Event

NET_PACKET_DNS: Final = "net_packet_dns"
NET_PACKET_DNS_REQUEST: Final = "net_packet_dns_request"
NET_PACKET_DNS_RESPONSE: Final = "net_packet_dns_response"
DNS_ANSWER_CONFLICT: Final = "dns_answer_conflict"


def _message(event: Event) -> Line:
    from dnstrail.events.message_line import message_line  # noqa: PLC0415 - dnspython, which a probe does without

    return message_line(event)


_MESSAGE = (
    *FLOW,
    DIRECTION,
    Field("proto_dns", "trace.ProtoDNS", "the DNS message"),
    Field("role", "const char*", "the role of the process: client, server, or forwarder for both"),
    *ORIGINAL,
    Field("foreign", "bool", "the server of this answer is none of the client's configured resolvers"),
    Field(ASKER_SEEN, "bool", "the message was also captured nearer to its asker"),
    Field(RELAY, "[]u64", "the process to whose socket NAT passes the question: its pid and its start", "ns"),
    Field(GETADDRINFO, "const char*", "the result code of the call of getaddrinfo() that returned this answer"),
    Field("dnstap", "const char*", "the type of the dnstap message"),
    Field("transport", "const char*", "the transport of the dnstap message, if it is neither UDP nor TCP"),
    Field("identity", "const char*", "the identity of the server that sent the dnstap message"),
    Field("proto_dns_error", "const char*", "the reason why the message cannot be read whole"),
)
_METADATA = Field("metadata", "trace.PktMeta", "addresses, ports, protocol and length of the packet", "bytes")
_REQUEST = (_METADATA, Field("dns_questions", "[]trace.DnsQueryData", "the question"))
_RESPONSE = (_METADATA, Field("dns_response", "[]trace.DnsResponseData", "the question and its answers"))
_OTHERS = "a second answer to one query that shares no target with the first"
_event, _derived = partial(EventSpecification, "packets"), partial(EventSpecification, "packets", published=False)
PACKETS: Final = (
    _event(NET_PACKET_DNS, 2006, "all", "a DNS message", _MESSAGE, "message", _message),
    _derived(NET_PACKET_DNS_REQUEST, 2007, "all", "derived from a query with one question", _REQUEST),
    _derived(NET_PACKET_DNS_RESPONSE, 2008, "all", "derived from a response with one question", _RESPONSE),
    _event(DNS_ANSWER_CONFLICT, 7003, "the cache", _OTHERS, _MESSAGE),
)
