"""What the programs write into the ring buffer, as events (the structs of dns.bpf.c and process.bpf.c)."""

from __future__ import annotations

import struct
from typing import NamedTuple

PACKET, EXEC, EXIT = 1, 2, 3
TCP, UDP = 6, 17
PARTS, PART = 20, 64

_PACKET = struct.Struct("<4Q6I3H4B6x16s16s16s16s")
_PROCESS = struct.Struct("<2Q6I16s")


class Packet(NamedTuple):
    """`struct packet`: times in ns of the monotonic clock, addresses padded to 16 bytes."""

    ts: int
    cookie: int
    netns: int
    cgroup: int
    kind: int
    captured: int
    pid: int
    uid: int
    length: int
    seq: int
    sport: int
    dport: int
    meant_port: int
    family: int
    protocol: int
    egress: int
    known: int
    saddr: bytes
    daddr: bytes
    meant: bytes
    comm: bytes


class Process(NamedTuple):
    """`struct process`."""

    ts: int
    cgroup: int
    kind: int
    pid: int
    parent: int
    uid: int
    status: int
    parts: int
    comm: bytes


def kind_of(record: bytes) -> int:
    """The kind of a record: packets carry it behind four, processes behind two 64-bit fields."""
    process = int.from_bytes(record[16:20], "little")
    if len(record) in (_PROCESS.size, _PROCESS.size + PARTS * PART) and process in (EXEC, EXIT):
        return process
    return PACKET


def read_packet(record: bytes) -> tuple[Packet, bytes]:
    """A packet, and its payload."""
    packet = Packet._make(_PACKET.unpack_from(record))
    return packet, record[_PACKET.size : _PACKET.size + packet.captured]


def read_process(record: bytes) -> Process:
    """The head of a process event."""
    return Process._make(_PROCESS.unpack_from(record))


def read_path(record: bytes, parts: int) -> str | None:
    """The absolute path of an exec event, or None where it was deeper or longer than the program looks."""
    if parts > PARTS:
        return None
    names = []
    for place in range(parts):
        start = _PROCESS.size + place * PART
        name = record[start : start + PART].partition(b"\0")[0]
        if len(name) == PART - 1:
            return None
        names.append(name.decode(errors="backslashreplace"))
    return "/" + "/".join(name for name in reversed(names) if name)
