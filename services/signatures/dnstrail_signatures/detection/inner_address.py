"""Inner addresses: those of a host, a link or a site, which no public name should have (RFC 1918, 4193, 6598, 3927)."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

_INNER: Final = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "::/127",
            "fc00::/7",
            "fe80::/10",
        ),
    )
)


@lru_cache(maxsize=16384)
def is_inner(address: str) -> bool:
    """Return whether an address belongs to a host, a link or a site."""
    parsed = ip_address(address)
    return any(parsed in network for network in _INNER if network.version == parsed.version)


@lru_cache(maxsize=16384)
def is_public(address: str) -> bool:
    """Return whether an address can be reached over the internet, and names one host."""
    parsed = ip_address(address)
    return parsed.is_global and not parsed.is_multicast
