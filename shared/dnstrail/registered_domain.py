"""The registered domain of a name: the public suffix above it, and one label more (publicsuffix.org)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from publicsuffixlist import PublicSuffixList

from dnstrail.dns.names import is_reverse

REMEMBERED: Final = 16384  # names with a known registered domain
_SUFFIXES: Final = PublicSuffixList()  # read at the import: the user of the worker may be unable to read its file
_ESCAPE: Final = re.compile(r"\\(?:\d{3}|.)", re.DOTALL)
_LABEL: Final = re.compile(r"(?:\\.|[^\\.])+", re.DOTALL)


@lru_cache(maxsize=REMEMBERED)
def registered_domain(name: str) -> str:
    """Return the registered domain of a name; "" for a public suffix, a single label, and a reverse name.

    A name in our form may have escaped dots. A dot within a label ends no label in DNS.
    """
    if is_reverse(name):
        return ""
    if "\\" not in name:
        return _SUFFIXES.privatesuffix(name) or ""
    found = _SUFFIXES.privatesuffix(_unescaped(name))
    return ".".join(_LABEL.findall(name)[-1 - found.count(".") :]) if found else ""


def octets_below(name: str, domain: str) -> int:
    """Return the number of octets of a name that lie below its registered domain."""
    return max(len(_unescaped(name)) - len(_unescaped(domain)) - 1, 0)


def _unescaped(name: str) -> str:
    """Return a name with an "x" in place of each escaped octet."""
    return _ESCAPE.sub("x", name) if "\\" in name else name
