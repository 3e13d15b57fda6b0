"""Builders of damaged, odd and hostile DNS messages."""

from __future__ import annotations

import struct
from collections.abc import Callable

from builders.dns_builders import CNAME, TXT, A, asked, by_hand, record, wire

QUESTION = asked(wire("q.example"))
HEAD = 12 + len(QUESTION)  # where the first record starts
P = b"\xc0\x0c"  # a pointer to the question
ONE = bytes([1, 1, 1, 1])
MESSAGE_LIMIT = 65535


def pointer(offset: int) -> bytes:
    """Return a compression pointer."""
    return struct.pack("!H", 0xC000 | offset)


def chained(labels: bytes, links: int) -> tuple[list[bytes], int]:
    """Return TXT records that hide a chain: an uncompressed name, then `links` runs of labels with a pointer back.

    Return also the offset of the end of the chain, where reading it starts.
    """
    records, at, target = [], HEAD, b"\x00"
    for _ in range(links + 1):
        records.append(record(P, TXT, labels + target))
        target = pointer(at + 12)
        at += len(records[-1])
    return records, at - len(records[-1]) + 12


def filled(records: list[bytes], one_more: bytes) -> bytes:
    """Return a message of these records, filled up with another record to the largest size of a DNS message."""
    room = MESSAGE_LIMIT - HEAD - sum(map(len, records))
    return by_hand(QUESTION, *records, *[one_more] * (room // len(one_more)))


def bomb(labels: bytes, links: int) -> bytes:
    """Return a message of 64 KiB in which every alias leads to a chain of pointers."""
    records, end = chained(labels, links)
    return filled(records, record(P, CNAME, pointer(end)))


def overlapping(region: bytes, step: int) -> bytes:
    """Return a message with a TXT record of this RDATA, and aliases that each point to another offset in it."""
    hidden = record(P, TXT, region)
    aliases = [record(P, CNAME, pointer(HEAD + 12 + at)) for at in range(0, len(region), step)]
    room = MESSAGE_LIMIT - HEAD - len(hidden)
    return by_hand(QUESTION, hidden, *aliases[: room // len(aliases[0])])


def parameters(*pairs: tuple[int, bytes]) -> bytes:
    """Return the RDATA of a service binding to its owner, with these parameters unchanged."""
    return b"\x00\x01\x00" + b"".join(struct.pack("!HH", key, len(value)) + value for key, value in pairs)


def with_parameters(*pairs: tuple[int, bytes]) -> bytes:
    """Return a message of one service binding with these parameters."""
    return by_hand(QUESTION, record(P, 64, parameters(*pairs)))


def numbered(one: Callable[[bytes], bytes], more: bytes = b"") -> bytes:
    """Return a message of 64 KiB of records, each made from another number of 2 odd bytes, after another record."""
    records, size, number = [more], HEAD + len(more), 0
    while size <= MESSAGE_LIMIT:
        records.append(one(struct.pack("!2B", 0x80 + number % 128, 0x80 + number // 128)))
        size += len(records[-1])
        number += 1
    return by_hand(QUESTION, *filter(None, records[:-1]))


def counted(width: int, count: int) -> bytes:
    """Return this many numbers, each of this many bytes."""
    return b"".join(number.to_bytes(width, "big") for number in range(1, count + 1))


BOMBS = {
    "whole names of 16 pointers": bomb(b"\x07abcdefg", 15),
    "one pointer too many": bomb(b"", 16),
    "names too long by far": bomb(b"\x01a" * 120, 15),
    "every owner a name of 255 bytes": by_hand(QUESTION, *[record(b"\x01a" * 127 + b"\x00", A, ONE)] * 242),
    "every label an odd byte": by_hand(QUESTION, *[record(b"\x01\xff" * 127 + b"\x00", A, ONE)] * 242),
    "SVCB records whose target is refused": filled([], record(P, 64, b"\x00\x01\xc0\x0c")),
    "names of odd bytes that overlap": overlapping((b"\x01" * 253 + b"\x00") * 18, 1),
    "names of ordinary bytes that overlap": overlapping((b"\x01a" * 126 + b"\x00") * 36, 2),
    "names that overlap and have no end": overlapping(b"\x01" * 9400, 1),
    "pointers to pointers": overlapping(b"\x00" + b"".join(pointer(HEAD + 11 + 2 * n) for n in range(4000)), 2),
    "aliases of no bytes": filled([], record(P, CNAME, b"")),
    "SVCB records without parameters": filled([], record(P, 64, parameters())),
    "SVCB records of one hint": filled([], record(P, 64, parameters((4, ONE)))),
    "16,000 IPv4 hints": with_parameters((4, counted(4, 16_000))),
    "4,000 IPv6 hints": with_parameters((6, counted(16, 4000))),
    "16,000 parameters": with_parameters(*((key, b"") for key in range(300, 16_300))),
    "4,000 addresses": by_hand(QUESTION, *(record(P, A, struct.pack("!I", n)) for n in range(4000))),
    "4,000 addresses, one of them twice": by_hand(
        QUESTION, *(record(P, A, struct.pack("!I", n)) for n in [*range(4000), 0])
    ),
    "one IPv4 hint 16,000 times": with_parameters((4, ONE * 16_000)),
    "SVCB records of three hints behind a foreign record": numbered(
        lambda n: record(P, 64, parameters((4, n + n + n + b"abcdef"))), record(b"\x00", A, ONE)
    ),
    "SVCB records of odd names": numbered(
        lambda n: record(P, 64, b"\x00\x01\x02" + n + b"\x00" + parameters((4, n + n))[3:])
    ),
    "aliases of odd names": numbered(lambda n: record(P, CNAME, b"\x02" + n + b"\x00")),
    "aliases of long odd names": numbered(lambda n: record(P, CNAME, b"\x02" + n + b"\x01\xff" * 125 + b"\x00")),
    "aliases that look like addresses": numbered(
        lambda n: record(P, CNAME, b"\x05%x:" % int.from_bytes(n) + pointer(HEAD + 12)),
        record(P, TXT, b"\x01:" * 120 + b"\x00"),
    ),
    "every owner an odd name": numbered(lambda n: record(b"\x02" + n + b"\x00", A, ONE)),
    "labels that overlap in 32 ways": overlapping((b"\x1f" * 223 + bytes(32)) * 36, 1),
}
