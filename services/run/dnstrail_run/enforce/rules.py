"""An allow list in the form of the maps in `maps.bpf.c`: each name and network with a mask of the ports it allows.

Each bit of a mask is a set of ports of the list; bit 0 is the set of all ports.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

import msgspec

from dnstrail.errors import SettingsError
from dnstrail_run.allow_list import AllowList, Network, Ports

#: sets of ports in the list of `--enforce` -> exit code 2
MOST_SETS = 63  # a mask has 64 bits
_BELOW = "*"  # a label that no entry contains
_FAMILY_BITS = 32


#: resolvers that entries of names have for themselves -> exit code 2
MOST_NARROW = 63
ANSWERED = 1  # in `types`: no question may be asked, and the answers to one that passed once lead somewhere
_RULE = struct.Struct("<4Q")


class Rule(msgspec.Struct, frozen=True):
    """`struct rule` of the programs: the masks of the ports, types and resolvers of a name, and of unchecked ports."""

    sets: int
    types: int
    servers: int
    unchecked: int = 0

    def packed(self) -> bytes:
        """Return the bytes of the structure."""
        return _RULE.pack(self.sets, self.types, self.servers, self.unchecked)

    @classmethod
    def unpacked(cls, data: bytes) -> Rule:
        """Return the rule of the bytes of the structure."""
        return cls(*_RULE.unpack(data))


class Rules(msgspec.Struct, frozen=True):
    """The entries of the maps: packed keys with their rules and masks. `ports` has the sets that contain a port.

    `servers` has the bit of each resolver (packed) that entries of names have for themselves.
    """

    names: dict[bytes, Rule]
    networks: dict[bytes, int]
    ports: dict[int, int]
    servers: dict[bytes, int]


def rules_of(allowed: AllowList) -> Rules:
    """Return the rules of a list.

    Raises:
        SettingsError: the list has too many sets of ports, or too many resolvers of single names.
    """
    if len(allowed.narrow) > MOST_NARROW:
        raise SettingsError(f"--enforce: more than {MOST_NARROW} resolvers of single names in the list of --allow")
    bits = _Bits()
    servers = {address: 2 << number for number, address in enumerate(allowed.narrow)}

    def rule(name: str) -> Rule:
        entries = [*allowed.entries_of(name)]
        return Rule(
            sets=bits.mask(entry.ports for entry in entries),
            types=_union(1 << number for entry in entries for number in entry.types),
            servers=_union(servers[one] for entry in entries for one in entry.resolvers)
            | any(not entry.resolvers for entry in entries),
            unchecked=bits.mask(entry.ports for entry in entries if entry.unchecked),
        )

    return Rules(
        names={
            **{_name_key(name, below=False): rule(name) for name in allowed.names},
            **{_name_key(name, below=True): rule(f"{_BELOW}.{name}") for name in allowed.suffixes},
        },
        networks=_networks(allowed, bits),
        ports=bits.ports,
        servers=servers,
    )


def _union(masks: Iterable[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


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
        return _union(self._bits.get(ports) or self._add(ports) for ports in sets)

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
        mask = _union(own.get(one, 0) for one in around)
        length = (_FAMILY_BITS + network.prefixlen).to_bytes(4, "little")
        found[length + address_key(network.network_address)] = mask
    return found
