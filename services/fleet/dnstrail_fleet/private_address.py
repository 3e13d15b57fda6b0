"""Addresses that mean another machine in each network."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Final

from dnstrail.dns.names import address_text

_NETWORKS: Final = tuple(
    map(
        ip_network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
            *("100.64.0.0/10", "169.254.0.0/16", "0.0.0.0/8", "127.0.0.0/8"),  # RFC 6598, 3927, 1122
            "198.18.0.0/15",  # RFC 2544
            *("fc00::/7", "fe80::/10", "::/127", "64:ff9b:1::/48"),  # RFC 4193, 4291, 8215
        ),
    )
)
_NAT64: Final = ip_network("64:ff9b::/96")  # RFC 6052: the last four bytes are an IPv4 address


@lru_cache(1 << 16)
def is_private(text: str) -> bool:
    """Return whether a text is an address that means another machine in each network."""
    if (literal := address_text(text)) is None:
        return False
    address = ip_address(literal)
    if address in _NAT64:
        address = IPv4Address(int(address) & 0xFFFFFFFF)
    return any(address in network for network in _NETWORKS)
