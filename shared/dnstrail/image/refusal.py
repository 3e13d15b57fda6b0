"""The messages that change nothing in the image (docs/inside/image.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.captured import Flow
from dnstrail.dns.header import IN, QR, Header

_OPCODE: Final = 0x7800
_LLMNR: Final = 5355  # the port of a responder (RFC 4795, section 2)
_GROUPS: Final = 224  # the least first byte of a multicast address


def refusal(header: Header, flow: Flow | None) -> str:
    """Return the counter of a message that changes nothing in the image, "" for a response that counts."""
    flags = header.flags
    if flow is not None:
        port = flow.source_port if flags & QR else flow.destination_port
        if port == _LLMNR or _is_multicast(flow.destination):
            return "multicast"
    if flags & _OPCODE:
        return "opcode"
    if not flags & QR:
        return "query" if header.asked.cls == IN else "other_query"
    if not header.question:
        return "question_count"
    return "" if header.asked.cls == IN else "class"


def _is_multicast(packed: bytes) -> bool:
    """Return whether a packed address is multicast: 224.0.0.0/4 (RFC 1112) or ff00::/8 (RFC 4291)."""
    if not packed or packed[0] < _GROUPS:
        return False
    return packed[0] == 0xFF if len(packed) == 16 else packed[0] < _GROUPS + 16  # noqa: PLR2004 - IPv6
