"""Applies one event to the image, by the name of the event."""

from __future__ import annotations

from typing import Any

from dnstrail.captured import (
    GETADDRINFO,
    NET_PACKET_DNS,
    NET_SERVER_NAME,
    NET_TCP_CONNECT,
    Captured,
    Process,
)
from dnstrail.connection import Connection
from dnstrail.dns.names import address_text, known_address
from dnstrail.image.answer import Circumstances
from dnstrail.image.image import FeedOutcome, Image
from dnstrail.image.trails.server_names import ServerNameSighting

TOPICS = (NET_PACKET_DNS, NET_TCP_CONNECT, NET_SERVER_NAME)
_NO_OUTCOME = FeedOutcome()


def apply_event(
    image: Image, topic: str, event: Captured, *, live: bool, stamp: int | None = None, host: str = ""
) -> FeedOutcome:
    """Apply an event of one of TOPICS to the image, and return the outcome of a DNS message.

    `stamp` is the time of the event on the clock of the stream (ns), by default its own time stamp. `host` is the host
    on which the event was captured. Other events of TOPICS return an empty outcome. Any other event changes nothing.
    """
    stamp = event.timestamp if stamp is None else stamp
    if topic == NET_PACKET_DNS:
        circumstances = Circumstances(event.flow, event.process, live, host=host)
        return apply_message(image, stamp, event.payload, event.args, circumstances)
    if topic == NET_TCP_CONNECT:
        _apply_connection(image, stamp, event)
    elif topic == NET_SERVER_NAME:
        _apply_server_name(image, stamp, event)
    return _NO_OUTCOME


def apply_message(
    image: Image, stamp: int, payload: bytes, args: dict[str, Any], circumstances: Circumstances
) -> FeedOutcome:
    """Apply a DNS message to the image; the arguments of its event complete its circumstances."""
    foreign = args.get("foreign") if args else None
    circumstances.foreign = foreign if isinstance(foreign, bool) else None  # whoever publishes may send any value
    circumstances.asked = bool(args) and GETADDRINFO in args
    return image.feed(stamp, payload, circumstances)


def _apply_connection(image: Image, stamp: int, event: Captured) -> None:
    process, port = event.process or Process(), event.args.get("dst_port")
    address = address_text(str(event.args.get("dst", "")))
    if address is not None and isinstance(port, int):
        connection = Connection(process.pid or None, process.container_id or None, _client(event) or None, port)
        image.note_connection(stamp, connection, address)


def _apply_server_name(image: Image, stamp: int, event: Captured) -> None:
    name, evidence = str(event.args.get("server_name", "")), str(event.args.get("evidence", ""))
    address = known_address(event.flow.destination) if event.flow else ""
    if event.flow and address and name:
        port = event.flow.destination_port
        image.note_server_name(address, ServerNameSighting(stamp, name, evidence, _client(event), port))


def _client(event: Captured) -> str:
    """Return the address of the client, "" if it is unknown."""
    return known_address(event.flow.source) if event.flow else ""
