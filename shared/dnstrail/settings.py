"""What `--dnscache` says: the options of tracee's flag, with ours beside them (DESIGN 7)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from dnstrail.errors import SettingsError

UNMATCHED = ("auto", "accept", "reject")  # the policies of admission: image/admission.py checks them, too
_MAX_DIGITS = 12
DNSCACHE_HELP = """\
Select different options for the DNS cache.

Example:
  --dnscache enable
  --dnscache size=X
  --dnscache grace=SECONDS
  --dnscache unmatched=auto|accept|reject
  --dnscache none

  --dnscache enable                | will enable with the default settings (it is enabled anyhow)
  --dnscache size=5000             | will limit the cache to 5000 query roots, which is the default
  --dnscache grace=60              | will keep a relation for 60 seconds past its TTL, which is the default
  --dnscache unmatched=auto        | an answer whose query was not seen: reject drops it, accept keeps it,
                                   | auto (the default) drops it where the query must have been seen
  --dnscache none                  | will disable the cache

Use comma OR use the flag multiple times to choose multiple options:
  --dnscache size=A,grace=B
  --dnscache size=A --dnscache grace=B"""


class DnsCache(msgspec.Struct, frozen=True):
    """The settings of the cache: query roots, seconds of grace, and what to do with answers nobody asked for."""

    enabled: bool = True
    size: int = 5000
    grace: float = 60.0
    unmatched: str = "auto"


def parse_dnscache(values: Iterable[str]) -> DnsCache:
    """The settings that the values of all `--dnscache` flags make together; later ones win.

    Raises:
        SettingsError: an option that there is not, or a value that it cannot take; the text names it.
    """
    settings = DnsCache()
    for option in (option.strip() for value in values for option in value.split(",")):
        name, equals, value = option.partition("=")
        if option in ("enable", "none"):
            settings = msgspec.structs.replace(settings, enabled=option == "enable")
        elif name == "size" and equals:
            settings = msgspec.structs.replace(settings, size=_size(value))
        elif name == "grace" and equals:
            settings = msgspec.structs.replace(settings, grace=_grace(value))
        elif name == "unmatched" and equals:
            settings = msgspec.structs.replace(settings, unmatched=_unmatched(value))
        else:
            raise SettingsError(f"unrecognized dnscache option: {option!r} (--dnscache help lists them)")
    return settings


def _size(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS and int(value) > 0):
        raise SettingsError(f"dnscache size: {value!r} is no positive whole number")
    return int(value)


def _grace(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise SettingsError(f"dnscache grace: {value!r} is no number of seconds from 0 on")
    return seconds


def _unmatched(value: str) -> str:
    if value not in UNMATCHED:
        raise SettingsError(f"dnscache unmatched: {value!r} is none of {', '.join(UNMATCHED)}")
    return value
