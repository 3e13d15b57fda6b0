"""An allow list in the form of the maps in `maps.bpf.c`: each name and network with a mask of the ports it allows.

Each bit of a mask is a set of ports of the list; bit 0 is the set of all ports.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import msgspec

from dnstrail.errors import SettingsError
from dnstrail_run.allow_list import AllowList, Network, Ports

#: sets of ports in the list of `--enforce` -> exit code 2
MOST_SETS = 63  # a mask has 64 bits
_BELOW = "*"  # a label that no entry contains
_FAMILY_BITS = 32


class Rules(msgspec.Struct, frozen=True):
    """The entries of the maps: packed keys with their masks. `ports` has the sets that contain a port."""

    names: dict[bytes, int]
    networks: dict[bytes, int]
    ports: dict[int, int]


def rules_of(allowed: AllowList) -> Rules:
    """Return the rules of a list.

    Raises:
        SettingsError: the list has too many sets of ports.
    """
    bits = _Bits()
    return Rules(
        names={
            **{_name_key(name, below=False): bits.mask(allowed.ports_of(name)) for name in allowed.names},
            **{
                _name_key(name, below=True): bits.mask(allowed.ports_of(f"{_BELOW}.{name}"))
                for name in allowed.suffixes
            },
        },
        networks=_networks(allowed, bits),
        ports=bits.ports,
    )


def address_key(address: IPv4Address | IPv6Address) -> bytes:
    """Return an address as `struct address` of the programs."""
    return address.version.to_bytes(4, "little") + address.packed.ljust(16, b"\0")


class _Bits:
    """The bits of the sets of ports."""

    def __init__(self) -> None:
        self._bits: dict[Ports, int] = {frozenset(): 1}
        self.ports: dict[int, int] = {}

    def mask(self, sets: Iterable[Ports]) -> int:
        """Return the mask of some sets."""
        found = 0
        for ports in sets:
            found |= self._bits.get(ports) or self._add(ports)
        return found

    def _add(self, ports: Ports) -> int:
        if len(self._bits) > MOST_SETS:
            raise SettingsError(f"--enforce: more than {MOST_SETS} different sets of ports in the list of --allow")
        bit = self._bits[ports] = 1 << len(self._bits)
        for port in ports:
            self.ports[port] = self.ports.get(port, 0) | bit
        return bit


def _name_key(name: str, *, below: bool) -> bytes:
    """Return `struct suffix`: the name backwards, and a dot behind it if names below it are meant, else a zero."""
    text = name[::-1].encode() + (b"." if below else b"\0")
    return (len(text) * 8).to_bytes(4, "little") + text.ljust(256, b"\0")


def _networks(allowed: AllowList, bits: _Bits) -> dict[bytes, int]:
    """Return the masks of the networks: the kernel finds the longest alone, so it has those of all around it."""
    own: dict[Network, int] = {}
    for network, ports in allowed.networks:
        own[network] = own.get(network, 0) | bits.mask([ports])
    lengths = sorted({network.prefixlen for network in own})
    found: dict[bytes, int] = {}
    for network in own:
        around = [network.supernet(new_prefix=length) for length in lengths if length <= network.prefixlen]
        mask = 0
        for one in around:
            mask |= own.get(one, 0)
        length = (_FAMILY_BITS + network.prefixlen).to_bytes(4, "little")
        found[length + address_key(network.network_address)] = mask
    return found
