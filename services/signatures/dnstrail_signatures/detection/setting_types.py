"""The types of the settings of detections: they refuse what would never match, or would end the detection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from dnstrail.dns.names import address_text, name_text

Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]  #: a number of values, or of entries of a table
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]  #: finite: infinity and NaN are refused
RecordType = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
Port = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
Octets = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]  #: a length, at most that of a DNS message
Ttl = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]  #: seconds (RFC 2181)
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
BitsPerOctet = Annotated[float, msgspec.Meta(ge=0, le=8)]
Text = Annotated[str, msgspec.Meta(min_length=1)]


def normal_names(key: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Return the domain names of a setting in the form that events have.

    Raises:
        ValueError: a text is no domain name, or the root.
    """
    names = {text: name_text(text.strip()) for text in texts}
    for text, name in names.items():
        if not name or address_text(name) is not None:
            raise ValueError(f"{key}: {text!r} is no domain name")
    return tuple(filter(None, names.values()))


def normal_addresses(key: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses of a setting in the form that events have.

    Raises:
        ValueError: a text is no address.
    """
    addresses = {text: address_text(text.strip()) for text in texts}
    for text, address in addresses.items():
        if address is None:
            raise ValueError(f"{key}: {text!r} is no address")
    return tuple(filter(None, addresses.values()))
