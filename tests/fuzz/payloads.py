"""Payloads for the fuzzer: real messages, built messages, mutants of both, and random bytes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random

from builders import traffic
from builders.dns_builders import AAAA, CNAME, TXT, A, asked, by_hand, record
from builders.hostile import HEAD, ONE, QUESTION, P, pointer
from dnstrail.dns import is_response
from dnstrail.errors import CaptureError
from dnstrail_probe.registry import open_source

MOST_BYTES = 4096
_TYPES = (A, A, AAAA, CNAME, CNAME, 12, 15, 33, 64, 65, TXT, 41, 250, 65280)
_LIKE_A_RECORD = b"\x0b123456789\x00\x04"  # holds 4 where a record behind a pointer holds its length
_USUAL = (b"\x01a", b"\x03WWW", b"\x01.", b"\x01\x00", b"\x02\xff\xc3", b"\x20" + b"b" * 32, b"\x2d" + b"-" * 45, b"")
_USUAL += (_LIKE_A_RECORD,)
_LABELS = (*_USUAL, b"\x3f" + b"c" * 63, b"\x01a" * 60, b"\x40a", b"\x80")
_TELLING = (0, 1, 2, 12, 31, 32, 33, 63, 64, 0x80, 0xC0, 0xFF)
_PARAMETERS = (
    b"\0\1\0\3\2h2",
    b"\0\2\0\0",
    b"\0\3\0\2\1\xbb",
    b"\0\4\0\4" + ONE,
    b"\0\4\0\3abc",
    b"\0\6\0\x10" + bytes(16),
)
_PARAMETERS += (b"\0\0\0\2\0\4", b"\0\5\0\6\0\4abcd", b"\0\5\0\6\0\5abcd", b"\0\1\0\2\0\1", b"\xff\0\0\0")


def read_corpus() -> list[bytes]:
    """Return the responses of all captures below DNSTRAIL_CORPUS, each once, and some queries; none without it."""
    folder = os.environ.get("DNSTRAIL_CORPUS")
    paths = sorted(Path(folder).rglob("*.pcap*")) if folder else []
    payloads = sorted({payload for path in paths for payload in _read(path) if len(payload) <= MOST_BYTES})
    return [*filter(is_response, payloads), *[payload for payload in payloads if not is_response(payload)][::10]]


def _read(path: Path) -> list[bytes]:
    payloads = []
    try:
        source = open_source(str(path))
        while (captured := source.read(1)) is not None:
            payloads += [event.payload for _, event in captured if event.payload]
        source.close()
    except CaptureError:
        pass  # some are broken on purpose
    return payloads


def any_payload(random: Random, corpus: list[bytes]) -> bytes:
    """Return one payload of any kind."""
    known = random.choice(corpus) if corpus and random.random() < 0.7 else traffic.message(random)
    sort = random.random()
    if sort < 0.1:
        return known
    if sort < 0.6:
        return mutant(random, known, random.choice(corpus) if corpus else known)
    if sort < 0.85:
        return woven(random)
    return deep(random) if sort < 0.9 else noise(random)


def mutant(random: Random, payload: bytes, other: bytes) -> bytes:
    """Return a payload after a few changes; some of its new bytes come from `other`."""
    wire = bytearray(payload)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        random.choice(_CHANGES)(random, wire, other)
    return bytes(wire[:MOST_BYTES])


def woven(random: Random) -> bytes:
    """Return a response whose names point into each other, some correctly and some not."""
    starts = [12]
    records: list[bytes] = []
    at = HEAD
    for _ in range(random.randint(1, 12)):
        owner = P if random.random() < 0.4 else _name(random, starts)
        starts += [at, at + len(owner) + 10]
        kind = random.choice(_TYPES)
        records.append(record(owner, kind, _rdata(random, kind, starts), random.choice(traffic.TTLS)))
        at += len(records[-1])
    return by_hand(asked(b"\x01q\x07example\x00"), *records)


def deep(random: Random) -> bytes:
    """Return a chain of aliases, about as deep and as long as names may be, that ends at an address."""
    label = random.choice((b"", b"\x01b", b"\x01\xff", b"\x0e" + b"c" * 14, b"\x0f" + b"d" * 15))
    records = [record(P, CNAME, _long(random, random.choice((2, 12, 13, 14, 15, 16, 30, 253, 254, 255, 256))))]
    at = HEAD
    for _ in range(random.choice((0, 1, 14, 15, 16, 17, 18))):
        target, at = pointer(at + 12), at + len(records[-1])
        records.append(record(P, CNAME, label + target))
    return by_hand(QUESTION, *records, record(pointer(at + 12), A, ONE), record(P, A, ONE))


def _long(random: Random, size: int) -> bytes:
    """Return an uncompressed name of this many bytes."""
    name = b""
    while (room := size - 2 - len(name)) > 0:
        length = room if room <= 2 else min(random.randint(1, 63), room)
        length -= room - length == 1  # which no label would fill
        name += bytes([length]) + b"f" * length
    return name + b"\0"


def _name(random: Random, starts: list[int]) -> bytes:
    labels = b"".join(random.choices(_USUAL if random.random() < 0.8 else _LABELS, k=random.randint(0, 3)))
    near = random.choice(starts) + random.choice((0, 0, 0, 0, 1, 2, 4, -1))
    return labels + random.choice((b"\0", pointer(near % 0x4000), pointer(near % 0x4000)))


def _rdata(random: Random, kind: int, starts: list[int]) -> bytes:
    if random.random() < 0.05:
        return random.randbytes(random.randint(0, 20))
    match kind:
        case 1:
            return random.randbytes(4)
        case 28:
            return random.choice((random.randbytes(16), bytes(10) + b"\xff\xff" + ONE, bytes(12) + ONE))
        case 64 | 65:
            chosen = random.sample(_PARAMETERS, random.randint(0, 4))
            target = random.choice((b"\0", b"\0", _name(random, starts)))
            return struct.pack("!H", random.choice((0, 1, 1))) + target + b"".join(sorted(chosen))
    return bytes({15: 2, 33: 6}.get(kind, 0)) + _name(random, starts)


def noise(random: Random) -> bytes:
    """Return random bytes, usually behind the header of a response."""
    size = random.randint(0, 120)
    tail = random.randbytes(size) if random.random() < 0.5 else bytes(random.choices(_TELLING, k=size))
    return by_hand(b"", counts=f"1 {random.randint(0, 9)} 0") + tail if random.random() < 0.8 else tail


def _flip(random: Random, wire: bytearray, _: bytes) -> None:
    if wire:
        wire[random.randrange(len(wire))] ^= 1 << random.randrange(8)


def _set(random: Random, wire: bytearray, _: bytes) -> None:
    if wire:
        wire[random.randrange(len(wire))] = random.choice((*_TELLING, random.randrange(256)))


def _cut(random: Random, wire: bytearray, _: bytes) -> None:
    at = random.randint(0, len(wire))
    del wire[at : at + random.choice((1, 1, 2, 4, 12))]


def _end(random: Random, wire: bytearray, _: bytes) -> None:
    del wire[random.randint(0, len(wire)) :]


def _point(random: Random, wire: bytearray, _: bytes) -> None:
    at = random.randint(0, len(wire))
    wire[at : at + random.choice((0, 2))] = pointer(random.randrange(min(len(wire) + 2, 0x4000)))


def _repeat(random: Random, wire: bytearray, _: bytes) -> None:
    at = random.randint(0, len(wire))
    wire[at:at] = wire[at : at + random.randint(1, 40)]


def _borrow(random: Random, wire: bytearray, other: bytes) -> None:
    at, start = random.randint(0, len(wire)), random.randint(0, len(other))
    wire[at:at] = other[start : start + random.randint(1, 60)]


def _count(random: Random, wire: bytearray, _: bytes) -> None:
    if len(wire) >= 12:
        struct.pack_into("!H", wire, random.choice((4, 6, 6, 8)), random.choice((0, 1, 2, 3, 20, 0xFFFF)))


_CHANGES: tuple[Callable[[Random, bytearray, bytes], None], ...] = (
    *(_flip, _set, _set, _cut, _end, _point, _point, _repeat, _borrow, _count),
)
