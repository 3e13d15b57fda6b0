"""The DNS role of a process: client, server, or (both) forwarder."""

from __future__ import annotations

from dnstrail.captured import CLIENT, FORWARDER, SERVER
from dnstrail_probe.host.process_table import ProcessEntry

_RESPONSE = 0x80  # QR, in the third byte of a message


def is_client(*, egress: bool, to_server: bool, from_server: bool, payload: bytes) -> bool:
    """Return true if a packet was captured at the client: an outgoing query or an incoming response.

    `to_server` and `from_server`: destination or source has a DNS port. If both have one, the message decides.
    """
    if to_server and from_server:
        return egress != bool(payload[2:3] and payload[2] & _RESPONSE)
    return to_server if egress else from_server


def note_role(entry: ProcessEntry | None, *, client: bool) -> str:
    """Note a role in the entry of a process; return the role that follows from all roles noted so far."""
    if entry is None:
        return CLIENT if client else SERVER
    entry.asks |= client
    entry.answers |= not client
    if entry.asks and entry.answers:
        return FORWARDER
    return CLIENT if client else SERVER
