"""Community ID, version 1, seed 0: a text that Zeek, Suricata and others give to the same flow (community-id-spec)."""

from __future__ import annotations

import hashlib
from base64 import b64encode

_SEED = bytes(2)
_PROTOCOLS = {"tcp": 6, "udp": 17}


def community_id(transport: str, source: bytes, source_port: int, destination: bytes, destination_port: int) -> str:
    """Return the id of a flow, in whichever direction it is given; addresses are packed."""
    ends = sorted(((source, source_port.to_bytes(2)), (destination, destination_port.to_bytes(2))))
    (first, first_port), (second, second_port) = ends
    protocol = bytes([_PROTOCOLS[transport], 0])
    digest = hashlib.sha1(_SEED + first + second + protocol + first_port + second_port, usedforsecurity=False)
    return "1:" + b64encode(digest.digest()).decode()
