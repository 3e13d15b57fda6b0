"""The role in which a process was seen: does it ask, does it answer, or both."""

from __future__ import annotations

from dnstrail.captured import CLIENT, FORWARDER, SERVER
from dnstrail_probe.host.process_table import ProcessEntry

_RESPONSE = 0x80  # QR, in the third byte of a message


def is_client(*, egress: bool, to_server: bool, from_server: bool, payload: bytes) -> bool:
    """Whether a packet is seen at the client's end: a question that leaves it, or an answer that reaches it.

    `to_server` and `from_server` say which end has a DNS port; where both have one, the message itself decides.
    """
    if to_server and from_server:
        return egress != bool(payload[2:3] and payload[2] & _RESPONSE)
    return to_server if egress else from_server


def note_role(life: ProcessEntry | None, *, client: bool) -> str:
    """The role of a process that was seen at one end, with all that it was seen doing before."""
    if life is None:
        return CLIENT if client else SERVER
    life.asks |= client
    life.answers |= not client
    if life.asks and life.answers:
        return FORWARDER
    return CLIENT if client else SERVER
