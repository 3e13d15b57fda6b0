"""The kinds of relation."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Kind(IntEnum):
    """The kinds of relation; the values are the record types of the DNS."""

    A = 1
    CNAME = 5
    PTR = 12
    MX = 15
    AAAA = 28
    SRV = 33
    SVCB = 64
    HTTPS = 65


A: Final = int(Kind.A)
AAAA: Final = int(Kind.AAAA)
CNAME: Final = int(Kind.CNAME)
MX: Final = int(Kind.MX)
SRV: Final = int(Kind.SRV)
PTR: Final = int(Kind.PTR)
ADDRESSES: Final = frozenset({int(Kind.A), int(Kind.AAAA)})
BINDINGS: Final = frozenset({int(Kind.SVCB), int(Kind.HTTPS)})
FAR: Final = frozenset({MX, SRV})  # kinds that lead to the addresses of other services, not of the name itself
