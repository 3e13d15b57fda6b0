"""The records that the programs write to the ring buffer, and the entries of their maps (structs of *.bpf.c)."""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from typing import NamedTuple

import msgspec

from dnstrail_probe.packets.tcp_header import TcpHeader, read_tcp

PACKET, EXEC, EXIT, FORK, CONNECT, CGROUP_MADE, CGROUP_REMOVED, CONNECTED, NOT_CONNECTED, RESOLVED = range(1, 11)
CLOSED, DNS_CLOSED = 11, 12
TCP, UDP = 6, 17
PARTS, PART = 20, 64
#: bytes from the next byte that an open socket expects (eBPF) -> the segment is dropped: `tcp_out_of_window`
FARTHEST = 16 << 20  # a window is hardly ever larger

KIND = 8  # position of the kind: after the time, as a little-endian number below 256
_UNPLACED = -(1 << 31)
_PACKET = struct.Struct("<Q2I4Q4I4H4BiI4x16s16s16s16s")
_PROCESS = struct.Struct("<Q2I2Q7I4x16s")
_CGROUP = struct.Struct("<QI4xQ")
_OWNER = struct.Struct("<4Q3IH2B16s16s")
_PLACE = struct.Struct("<Q16s2I")
_RELAY_PLACE = struct.Struct("<Q4s2H")
_BYTES = struct.Struct("<2Q")
_RESOLVED = struct.Struct("<Q2I2Q2I3i2I4x16s256s")
_ANSWER = struct.Struct("<I16s")
_COMMANDS = 1024  # names of commands that are remembered as text
_ADDRESS = {2: 4, 10: 16}  # AF_INET, AF_INET6 -> bytes
_MAPPED = bytes(10) + b"\xff\xff"  # before an IPv4 address: ::ffff:0:0/96


class PacketRecord(msgspec.Struct, frozen=True, gc=False):
    """`struct packet`: times in ns of the monotonic clock, addresses padded to 16 bytes."""

    ts: int
    kind: int
    captured: int
    cookie: int
    netns: int
    cgroup: int
    noted: int
    pid: int
    tid: int
    uid: int
    processor: int
    sport: int
    dport: int
    meant_port: int
    datagram_size: int
    family: int
    protocol: int
    egress: int
    error: int
    distance: int
    relay: int
    saddr: bytes
    daddr: bytes
    meant: bytes
    comm: bytes


class ProcessRecord(NamedTuple):
    """`struct process`: `ts` in ns of the monotonic clock, `started` in ns of the boot time clock."""

    ts: int
    kind: int
    pid: int
    cgroup: int
    started: int
    parent: int
    uid: int
    status: int
    parts: int
    mount_namespace: int
    pid_namespace: int
    processor: int
    comm: bytes


class CgroupRecord(NamedTuple):
    """The head of `struct cgroup_event`."""

    ts: int
    kind: int
    id: int


class GetaddrinfoRecord(NamedTuple):
    """The head of `struct resolved`; its process had the pid at the time of the record (`noted`)."""

    noted: int
    kind: int
    pid: int
    cgroup: int
    began: int
    tid: int
    uid: int
    error: int
    flags: int
    family: int
    more: int
    processor: int
    comm: bytes
    name: bytes

    @property
    def ts(self) -> int:
        """The time of the return."""
        return self.noted


class OwnerRecord(NamedTuple):
    """`struct owner`. `use` is 1 for a socket that asks names, else 0; `charged` is 0 if no share contains it."""

    noted: int
    netns: int
    cgroup: int
    charged: int
    pid: int
    tid: int
    uid: int
    meant_port: int
    family: int
    use: int
    meant: bytes
    comm: bytes


def read_packet(record: bytes) -> tuple[PacketRecord, bytes]:
    """Return a packet and its payload."""
    packet = PacketRecord(*_PACKET.unpack_from(record))
    return packet, record[_PACKET.size : _PACKET.size + packet.captured]


def read_segment(packet: PacketRecord, payload: bytes) -> tuple[TcpHeader, bytes] | str:
    """Return the header and the payload of a TCP segment, or the counter of the reason why it has none."""
    distance = None if packet.distance == _UNPLACED else packet.distance
    return "tcp_out_of_window" if abs(distance or 0) > FARTHEST else read_tcp(payload, distance)


def read_bytes(payload: bytes) -> tuple[int, int] | None:
    """Return the bytes that an ended connection sent and received; None if this kernel does not count them."""
    return _BYTES.unpack(payload) if payload else None


def datagrams(size: int, payload: bytes) -> list[bytes]:
    """Return the payload of each datagram of a UDP packet; the kernel passes up to 128 of one size as one packet."""
    return [payload[at : at + size] for at in range(0, len(payload), size)]


def read_process(record: bytes) -> ProcessRecord:
    """Return the head of a process event."""
    return ProcessRecord._make(_PROCESS.unpack_from(record))


def read_path(record: bytes, parts: int) -> str | None:
    """Return the absolute path of an exec event; None if it exceeds the program's bounds on depth or length."""
    if parts > PARTS:
        return None
    names = []
    for place in range(parts):
        start = _PROCESS.size + place * PART
        name = record[start : start + PART].partition(b"\0")[0]
        if len(name) == PART - 1:
            return None
        names.append(text(name))
    return "/" + "/".join(name for name in reversed(names) if name)


def read_cgroup(record: bytes) -> tuple[CgroupRecord, str]:
    """Return a cgroup event and the path of its cgroup, which can be opened: os.fsencode() returns its bytes."""
    path = record[_CGROUP.size :].partition(b"\0")[0]
    return CgroupRecord._make(_CGROUP.unpack_from(record)), os.fsdecode(path)


def read_getaddrinfo(record: bytes) -> tuple[GetaddrinfoRecord, list[bytes]]:
    """Return a call of getaddrinfo and the addresses of its result: packed, without duplicates."""
    entries = _ANSWER.iter_unpack(record[_RESOLVED.size :])
    addresses = [address[: _ADDRESS[family]] for family, address in entries if family in _ADDRESS]
    return GetaddrinfoRecord._make(_RESOLVED.unpack_from(record)), list(dict.fromkeys(addresses))


def pack_owner(owner: OwnerRecord) -> bytes:
    """Return a value of the maps `owners` and `servers`; in `servers`, `charged` is the cookie of the socket."""
    return _OWNER.pack(*owner)


def pack_id(number: int) -> bytes:
    """Return the cookie of a socket or the id of a cgroup, as a key or value of a map."""
    return number.to_bytes(8, "little")


def pack_place(netns: int, address: bytes, protocol: int, port: int) -> bytes:
    """Return a key of the map `servers`; its address has 16 bytes: one of IPv4 is IPv4-mapped."""
    return _PLACE.pack(netns, address if len(address) == _ADDRESS[10] else _MAPPED + address, protocol, port)


def pack_relay_place(netns: int, address: bytes, protocol: int, port: int) -> bytes:
    """Return a key of the map `relays`."""
    return _RELAY_PLACE.pack(netns, address, port, protocol)


def text(raw: bytes) -> str:
    """Return the text of a C string; bytes that are not UTF-8 are escaped."""
    return raw.partition(b"\0")[0].decode(errors="backslashreplace")


def name_text(raw: bytes) -> str:
    r"""Return the text of a DNS name in a C string; if it is not UTF-8, bytes beyond ASCII are escaped as `\DDD`."""
    name = raw.partition(b"\0")[0]
    try:
        return name.decode()
    except UnicodeDecodeError:
        return "".join(one if one.isascii() else f"\\{ord(one)}" for one in name.decode("latin-1"))


@lru_cache(maxsize=_COMMANDS)
def command_name(raw: bytes) -> str:
    """Return the text of a `comm`; most packets have one of few."""
    return text(raw)
