"""The addresses with which resolvers block names: one such address belongs to every blocked name at once."""

from __future__ import annotations

_NETWORKS = ("0.", "127.")  # 0.0.0.0/8 and 127.0.0.0/8, in canonical text
_ADDRESSES = frozenset({"::", "::1"})


def is_sinkhole(address: str) -> bool:
    """Return whether resolvers answer with this address to block a name: it is unspecified or a loopback address."""
    return address.startswith(_NETWORKS) or address in _ADDRESSES
