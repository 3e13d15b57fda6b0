"""What an event tells the image, by the event's name: DNS messages, connections, names that servers were called by."""

from __future__ import annotations

from dnstrail.captured import (
    GETADDRINFO,
    NET_PACKET_DNS,
    NET_SERVER_NAME,
    NET_TCP_CONNECT,
    Captured,
    Process,
)
from dnstrail.dns.names import address_text
from dnstrail.image import FeedOutcome, Image, ServerNameSighting
from dnstrail.image.trails.asker import known_address

TOPICS = (NET_PACKET_DNS, NET_TCP_CONNECT, NET_SERVER_NAME)
_NANOSECONDS = 1_000_000_000


def apply_event(image: Image, topic: str, event: Captured, *, live: bool) -> FeedOutcome:
    """Tell the image of an event; what became of it, if it was a DNS message."""
    stamp = event.timestamp / _NANOSECONDS
    if topic == NET_PACKET_DNS:
        foreign, asked = event.args.get("foreign"), GETADDRINFO in event.args
        return image.feed(stamp, event.payload, event.flow, event.process, live=live, foreign=foreign, asked=asked)
    if topic == NET_TCP_CONNECT:
        _take_connection(image, stamp, event)
    elif topic == NET_SERVER_NAME:
        _take_server_name(image, stamp, event)
    return FeedOutcome()


def _take_connection(image: Image, stamp: float, event: Captured) -> None:
    process, port = event.process or Process(), event.args.get("dst_port")
    address = address_text(str(event.args.get("dst", "")))
    if address is not None and isinstance(port, int):
        actors = (process.pid, process.container_id, _client(event))
        image.connected(stamp, [actor for actor in actors if actor], address, port)


def _take_server_name(image: Image, stamp: float, event: Captured) -> None:
    name, evidence = str(event.args.get("server_name", "")), str(event.args.get("evidence", ""))
    address = known_address(event.flow.destination) if event.flow else ""
    if event.flow and address and name:
        image.called(address, ServerNameSighting(stamp, name, evidence, _client(event), event.flow.destination_port))


def _client(event: Captured) -> str:
    """The address of the client, "" if it is not known."""
    return known_address(event.flow.source) if event.flow else ""
