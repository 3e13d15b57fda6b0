"""The resolvers that the text of a resolv.conf names (resolv.conf(5))."""

from __future__ import annotations

from ipaddress import ip_address

_LOOPBACK = (ip_address("127.0.0.1"), ip_address("::1"))  # the default


def configured_in(text: str) -> frozenset[bytes]:
    """Return the packed addresses that the text of a resolv.conf names; the loopback addresses if it names none."""
    return frozenset(servers_in(text))


def servers_in(text: str) -> dict[bytes, str]:
    """Return the addresses of `configured_in`, packed and as text; the text has the zone (`%eth0`) of the file."""
    found: dict[bytes, str] = {}
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word != "nameserver" or not rest:
            continue
        text, *zone = rest[0].partition("%")
        try:
            address = ip_address(text)
        except ValueError:
            continue
        address = getattr(address, "ipv4_mapped", None) or address
        found[address.packed] = f"{address}{''.join(zone)}"
    return found or {address.packed: str(address) for address in _LOOPBACK}
