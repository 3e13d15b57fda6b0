"""The settings of the cache: the options of `--dnscache`, tracee's and ours (docs/use/operate.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from dnstrail.errors import SettingsError

UNMATCHED = ("auto", "accept", "reject")  # the policies of admission: image/admission.py checks them, too
_MAX_DIGITS = 12
MOST_SECONDS = 1e9  # 31 years: with a stamp of today, the sum of all fits into 62 bits of nanoseconds
DNSCACHE_HELP = """\
Select different options for the DNS cache.

Example:
  --dnscache enable
  --dnscache size=X
  --dnscache grace=SECONDS
  --dnscache history=SECONDS
  --dnscache relations=X
  --dnscache unmatched=auto|accept|reject
  --dnscache none

  --dnscache enable                | will enable with the default settings (it is enabled anyhow)
  --dnscache size=5000             | will limit the cache to 5000 query roots, which is the default
  --dnscache grace=60              | will keep a relation for 60 seconds past its TTL, which is the default
  --dnscache history=300           | will remember an ended relation for 300 seconds, which is the default
  --dnscache relations=131072      | will limit the cache to 131072 relations, which is the default up to size=5041
  --dnscache unmatched=auto        | an answer whose query was not seen: reject drops it, accept keeps it,
                                   | auto (the default) drops it where the query must have been seen
  --dnscache none                  | will disable the cache

Use comma OR use the flag multiple times to choose multiple options:
  --dnscache size=A,grace=B
  --dnscache size=A --dnscache grace=B"""


class DnsCache(msgspec.Struct, frozen=True):
    """The settings of the cache.

    `size` and `relations` bound query roots and relations (`relations` 0: as many as fit `size`). `grace` and
    `history` are seconds past the TTL and past the end of a relation. `unmatched` is the policy for answers whose
    query was not seen.
    """

    enabled: bool = True
    size: int = 5000
    grace: float = 60.0
    history: float = 300.0
    relations: int = 0
    unmatched: str = "auto"


def parse_dnscache(values: Iterable[str]) -> DnsCache:
    """Return the settings that the values of all `--dnscache` flags make together; later options win.

    Raises:
        SettingsError: an option is unknown, or its value is not accepted; the text names the option.
    """
    settings: dict[str, Any] = {}
    for option in (option.strip() for value in values for option in value.split(",")):
        name, equals, value = option.partition("=")
        if option in _SWITCHES:
            settings["enabled"] = _SWITCHES[option]
        elif name in _OPTIONS and equals:
            settings[name] = _OPTIONS[name](name, value)
        else:
            raise SettingsError(f"unrecognized dnscache option: {option!r} (--dnscache help lists them)")
    return DnsCache(**settings)


def _parse_count(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS and int(value) > 0):
        raise SettingsError(f"dnscache {name}: {value!r} is no positive whole number")
    return int(value)


def _parse_seconds(name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MOST_SECONDS:
        raise SettingsError(f"dnscache {name}: {value!r} is no number of seconds from 0 to {MOST_SECONDS:.0f}")
    return seconds


def _parse_policy(name: str, value: str) -> str:
    if value not in UNMATCHED:
        raise SettingsError(f"dnscache {name}: {value!r} is none of {', '.join(UNMATCHED)}")
    return value


_SWITCHES = {"enable": True, "none": False}
_OPTIONS: dict[str, Callable[[str, str], Any]] = {  # the fields of DnsCache that an option sets
    "size": _parse_count,
    "grace": _parse_seconds,
    "history": _parse_seconds,
    "relations": _parse_count,
    "unmatched": _parse_policy,
}
