"""The family of connections: their attempts, outcomes, ends, and the names that clients send by them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from dnstrail.events.specification import DIRECTION, FLOW, ORIGINAL, EventSpecification, Field, Line, Stated

if TYPE_CHECKING:
    from dnstrail.events.event import Event

NET_TCP_CONNECT: Final = "net_tcp_connect"
NET_UDP_CONNECT: Final = "net_udp_connect"
NET_TCP_CONNECT_RESULT: Final = "net_tcp_connect_result"
NET_TCP_CLOSE: Final = "net_tcp_close"
NET_UDP_CLOSE: Final = "net_udp_close"
NET_SERVER_NAME: Final = "net_server_name"
DNS_SOCKET_CLOSE: Final = "dns_socket_close"
DST_DNS: Final = "dst_dns"  # the field that lists the names of the receiver


def _connection(event: Event) -> Line:
    names = event.arg(DST_DNS)
    shown = tuple(map(str, names)) if isinstance(names, list) else ()
    return Line(receiver(event) + (" " if names else ""), shown)


def result_line(event: Stated) -> Line:
    """Return the line of the outcome of an attempt."""
    if event.arg("connected"):
        return Line(f"{receiver(event)} connected")
    error = event.arg("error")
    return Line(f"{receiver(event)} {f'failed ({error})' if error else 'given up'}", kind="problem")


def _close(event: Event) -> Line:
    return Line(f"{receiver(event)} closed{counted(event)}")


def counted(event: Stated) -> str:
    """Return the bytes of the end of a connection in words, "" if they are unknown."""
    sent, received = event.arg("bytes_sent"), event.arg("bytes_received")
    if not isinstance(sent, int) or not isinstance(received, int):
        return ""
    from rich.filesize import decimal  # noqa: PLC0415 - workers leave rich out

    return f" ({decimal(sent)} sent, {decimal(received)} received)"


def _server_name(event: Event) -> Line:
    return Line(f"{receiver(event)} called {event.arg('server_name')} ({event.arg('evidence')})")


def receiver(event: Stated) -> str:
    """Return the receiver of a connection in words."""
    address, port = str(event.arg("dst") or "?"), event.arg("dst_port")
    udp = "/udp" if event.event_name in (NET_UDP_CONNECT, NET_UDP_CLOSE) or event.arg("transport") == "udp" else ""
    return f"-> [{address}]:{port}{udp}" if ":" in address else f"-> {address}:{port}{udp}"


_SOCKET = Field("socket", "int", "the cookie of the socket, which all its events share")
_SRC, _DST, _SRC_PORT, _DST_PORT = FLOW
_TO = (_DST, _DST_PORT._replace(type="int"))  # as tracee has it here
_FROM = (_SRC, _SRC_PORT, DIRECTION, *ORIGINAL)
_JOIN = (_SOCKET, Field("community_id", "const char*", "the Community ID of the connection (version 1, seed 0)"))
_NAMES = Field(DST_DNS, "const char **", "the names of the receiver at the time of the event, the likeliest first")
_ATTEMPT, _AFTER = (*_TO, _NAMES, *_FROM, *_JOIN), (*_TO, *_FROM, *_JOIN)

_RESULT = (
    *_AFTER,
    Field("connected", "bool", "the connection was established"),
    Field("error", "const char*", 'the name of the errno; "" on success, or if the process gave up'),
)
_CLOSE = (
    *_AFTER,
    Field("bytes_sent", "u64", "what the process sent, without headers and retransmissions", "bytes"),
    Field("bytes_received", "u64", "what the process received, without headers and retransmissions", "bytes"),
)
_NAME = (
    *FLOW,
    DIRECTION,
    *ORIGINAL,
    Field("server_name", "const char*", "the name with which the client addresses the server"),
    Field("evidence", "const char*", "where the name stands: in the TLS ClientHello, or in the HTTP request"),
)
_FIRST = "the first datagram of a connected UDP socket"
_ASKED = "a client closed a UDP socket by which it asked names; servers and forwarders are left out"
_BTF = "eBPF with BTF"
_event = partial(EventSpecification, "connections")
CONNECTIONS: Final = (
    _event(NET_TCP_CONNECT, 2016, "eBPF, pcap, pcapng", "a TCP connection attempt", _ATTEMPT, "connect", _connection),
    _event(NET_UDP_CONNECT, 7000, "eBPF", _FIRST, _ATTEMPT, "connect", _connection),
    _event(NET_TCP_CONNECT_RESULT, 7001, _BTF, "the outcome of an attempt", _RESULT, "conclude", result_line),
    _event(NET_TCP_CLOSE, 7004, _BTF, "the end of a connection whose attempt was seen", _CLOSE, "close", _close),
    _event(NET_UDP_CLOSE, 7006, "eBPF", "the end of a connected UDP socket", _AFTER, "close", _close),
    _event(NET_SERVER_NAME, 7002, "`--evidence sni`", "a server name of a client", _NAME, "server_name", _server_name),
    _event(DNS_SOCKET_CLOSE, 7005, "eBPF", _ASKED, (*_TO, *_FROM, _SOCKET), "end_lookups", _close),
)
