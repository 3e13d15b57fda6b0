"""Addresses that mean another machine in each network."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

from dnstrail.dns.names import address_text

_NETWORKS: Final = tuple(
    map(
        ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
            *("100.64.0.0/10", "169.254.0.0/16", "0.0.0.0/8", "127.0.0.0/8"),  # RFC 6598, 3927, 1122
            *("fc00::/7", "fe80::/10", "::/127"),  # RFC 4193, 4291
        ),
    )
)


@lru_cache(1 << 16)
def is_private(text: str) -> bool:
    """Return whether a text is an address that means another machine in each network."""
    if address_text(text) is None:
        return False
    address = ip_address(text)
    return any(address in network for network in _NETWORKS)
