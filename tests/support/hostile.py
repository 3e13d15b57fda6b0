"""DNS messages as strangers send them: builders of damaged, odd and hostile bytes."""

from __future__ import annotations

import struct

from sequences_ordinary import CNAME, TXT, A, asked, by_hand, record, wire

QUESTION = asked(wire("q.example"))
HEAD = 12 + len(QUESTION)  # where the first record starts
P = b"\xc0\x0c"  # a pointer to the question
ONE = bytes([1, 1, 1, 1])
MESSAGE_LIMIT = 65535


def pointer(offset: int) -> bytes:
    """A compression pointer."""
    return struct.pack("!H", 0xC000 | offset)


def chained(labels: bytes, links: int) -> tuple[list[bytes], int]:
    """TXT records that hide a chain: an uncompressed name, then `links` runs of labels that each point to the last.

    Gives the records and the offset of the end of the chain, where reading it starts.
    """
    records, at, target = [], HEAD, b"\x00"
    for _ in range(links + 1):
        records.append(record(P, TXT, labels + target))
        target = pointer(at + 12)
        at += len(records[-1])
    return records, at - len(records[-1]) + 12


def filled(records: list[bytes], one_more: bytes) -> bytes:
    """A message of these records, and of as many of another as the size of a DNS message allows."""
    room = MESSAGE_LIMIT - HEAD - sum(map(len, records))
    return by_hand(QUESTION, *records, *[one_more] * (room // len(one_more)))


def bomb(labels: bytes, links: int) -> bytes:
    """A message of 64 KiB whose every alias leads to a chain of pointers."""
    records, end = chained(labels, links)
    return filled(records, record(P, CNAME, pointer(end)))


BOMBS = {
    "whole names of 16 pointers": bomb(b"\x07abcdefg", 15),
    "one pointer too many": bomb(b"", 16),
    "names too long by far": bomb(b"\x01a" * 120, 15),
    "every owner a name of 255 bytes": by_hand(QUESTION, *[record(b"\x01a" * 127 + b"\x00", A, ONE)] * 242),
    "every label an odd byte": by_hand(QUESTION, *[record(b"\x01\xff" * 127 + b"\x00", A, ONE)] * 242),
    "SVCB records whose target is refused": filled([], record(P, 64, b"\x00\x01\xc0\x0c")),
    "4,000 addresses": by_hand(QUESTION, *(record(P, A, struct.pack("!I", n)) for n in range(4000))),
}
