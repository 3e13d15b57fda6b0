"""The arguments of a connection event by which it can be joined to a flow."""

from __future__ import annotations

import hashlib
from base64 import b64encode

from dnstrail.captured import Flow

_SEED = bytes(2)
_PROTOCOLS = {"tcp": 6, "udp": 17}


def connection_args(flow: Flow) -> dict[str, object]:
    """Return destination, socket and Community ID of a connection, as far as they are known."""
    args: dict[str, object] = {"dst": flow.destination_text, "dst_port": flow.destination_port}
    if flow.socket:
        args["socket"] = flow.socket
    if flow.source and flow.source_port:
        ends = flow.source, flow.source_port, flow.destination, flow.destination_port
        args["community_id"] = community_id(flow.transport, *ends)
    return args


def community_id(transport: str, source: bytes, source_port: int, destination: bytes, destination_port: int) -> str:
    """Return the id of a flow, in whichever direction it is given; addresses are packed."""
    ends = sorted(((source, source_port.to_bytes(2)), (destination, destination_port.to_bytes(2))))
    (first, first_port), (second, second_port) = ends
    protocol = bytes([_PROTOCOLS[transport], 0])
    digest = hashlib.sha1(_SEED + first + second + protocol + first_port + second_port, usedforsecurity=False)
    return "1:" + b64encode(digest.digest()).decode()
