"""The types of the settings of detections: they refuse what would never match, or would end the detection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

import msgspec

from dnstrail.dns.names import address_text
from dnstrail_signatures.detection.watch_table import watched_key

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
    """Return the domain names of a setting, written as in a watch list (`*.a.example`), in the form that events have.

    Raises:
        ValueError: a text is no domain name, or the root.
    """
    return _normal(key, texts, _domain_name, "domain name")


def normal_addresses(key: str, texts: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses of a setting in the form that events have.

    Raises:
        ValueError: a text is no address.
    """
    return _normal(key, texts, address_text, "address")


def _domain_name(text: str) -> str | None:
    name = watched_key(text)
    return name if name and address_text(name) is None else None


def _normal(key: str, texts: Iterable[str], normal: Callable[[str], str | None], noun: str) -> tuple[str, ...]:
    forms = []
    for text in texts:
        form = normal(text.strip())
        if form is None:
            raise ValueError(f"{key}: {text!r} is no {noun}")
        forms.append(form)
    return tuple(forms)
