"""The corpus of real captures, and the messages that tshark read from each."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail.captured import Captured
from dnstrail.dns import decode
from dnstrail.errors import BadMessage
from dnstrail_probe.registry import open_source

CORPUS = Path(os.environ["DNSTRAIL_CORPUS"]) if os.environ.get("DNSTRAIL_CORPUS") else None
_DNSTAP = {".fstrm", ".dnstap"}
_FILES = sorted((CORPUS / "captures").iterdir()) if CORPUS else []
CAPTURES = [path for path in _FILES if path.suffix not in _DNSTAP]
DNSTAP_FILES = [path for path in _FILES if path.suffix in _DNSTAP]

needs_corpus = [
    pytest.mark.corpus,
    pytest.mark.skipif(CORPUS is None, reason="DNSTRAIL_CORPUS names no folder of captures"),
]

# `make test-corpus` sets it; `make test`, which has ten minutes, takes a sample of the captures.
WHOLE_CORPUS = bool(os.environ.get("DNSTRAIL_ALL_CAPTURES"))

Message = tuple[int, int, int, str, str]  # time stamp, source port, destination port, id, transport

_OTHER_PORT = "pktvisor__dns_ipv"  # captures of load tests that have DNS on port 53000


def events_of(path: Path) -> Iterator[tuple[str, Captured]]:
    """Yield the events of a capture."""
    source = open_source(str(path))
    while (captured := source.read(1)) is not None:
        yield from captured
    source.close()


def touched_by(event: Captured) -> list[str]:
    """Return the owners and targets in the answers of a message."""
    try:
        answers = decode(event.payload).answers
    except BadMessage:
        return []
    return [node for one in answers for node in (one.owner, one.target) if isinstance(node, str)]


def ports_of(path: Path) -> frozenset[int]:
    """Return the DNS ports of a capture."""
    return frozenset({53000 if path.name.startswith(_OTHER_PORT) else 53})


def tsharks(path: Path) -> list[Message]:
    """Return the messages that tshark found on these ports, over UDP and TCP, in tunnels and fragments, too."""
    truth = path.parent.parent / "truth" / f"{path.name}.tsv"
    if not truth.exists():
        return []
    with truth.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return sorted(message for row in rows for message in _messages(row) if ports_of(path) & {*message[1:3]})


def _messages(row: dict[str, str]) -> list[Message]:
    """Return the messages of one row; among several UDP layers (a tunnel) the innermost has them."""
    transport = "tcp" if row["tcp.srcport"] else "udp"
    seconds, nanoseconds = row["frame.time_epoch"].split(".")
    stamp = int(seconds) * 10**9 + int(nanoseconds.ljust(9, "0"))
    source, destination = (int(row[f"{transport}.{side}port"].rsplit(",", 1)[-1]) for side in ("src", "dst"))
    return [(stamp, source, destination, number, transport) for number in row["dns.id"].split(",")]
