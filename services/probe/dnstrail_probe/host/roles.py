"""The DNS role of a process: client, server, or (both) forwarder."""

from __future__ import annotations

from dnstrail.captured import CLIENT, FORWARDER, SERVER
from dnstrail_probe.host.process_table import ProcessEntry

_RESPONSE = 0x80  # QR, in the third byte of a message


def note_role(
    entry: ProcessEntry | None, payload: bytes, *, egress: bool, to_server: bool, from_server: bool
) -> tuple[bool, str]:
    """Return whether a packet was captured at the client, and the role of its process by all its packets so far.

    It was captured there if it is an outgoing query or an incoming response. `to_server` and `from_server`: destination
    or source has a DNS port. If both have one, the message decides. The role is noted in the entry of the process.
    """
    client = to_server if egress else from_server
    if to_server and from_server:
        client = egress != bool(payload[2:3] and payload[2] & _RESPONSE)
    if entry is not None:
        entry.asks |= client
        entry.answers |= not client
        if entry.asks and entry.answers:
            return client, FORWARDER
    return client, CLIENT if client else SERVER
