"""The corpus of real captures, and what tshark read out of each."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

CORPUS = Path(os.environ["DNSTRAIL_CORPUS"]) if os.environ.get("DNSTRAIL_CORPUS") else None
_DNSTAP = {".fstrm", ".dnstap"}
_FILES = sorted((CORPUS / "captures").iterdir()) if CORPUS else []
CAPTURES = [path for path in _FILES if path.suffix not in _DNSTAP]
DNSTAP_FILES = [path for path in _FILES if path.suffix in _DNSTAP]

needs_corpus = [
    pytest.mark.corpus,
    pytest.mark.skipif(CORPUS is None, reason="DNSTRAIL_CORPUS names no folder of captures"),
]

_FRAGMENTS = "fragments are passed over until there is a reassembly"

# Where tshark knows more than the frames' own UDP datagrams hold, and why.
EXCEPTIONS: dict[str, str] = {
    "dns-collector__dnsdump_ip4_fragmented+udp.pcap": f"{_FRAGMENTS}: 1 response of 2 messages",
    "dns-collector__dnsdump_ip4_fragmented_query.pcap": f"{_FRAGMENTS}: both queries",
    "dns-collector__dnsdump_ip6_fragmented_query.pcap": f"{_FRAGMENTS}: the query",
    "pktvisor__ecs.pcap": f"{_FRAGMENTS}: 7 responses, IPv4 and IPv6",
    "zeek__dns-edns-ecs.pcap": f"{_FRAGMENTS}: 4 responses",
    "zeek__ipv6-fragmented-dns.pcap": f"{_FRAGMENTS}: 1 response",
    "zeek__tunnels__geneve-vxlan-dns-truncated.pcap": "both within VXLAN in GENEVE, which is not opened",
}

Message = tuple[int, int, int, str]  # time stamp, source port, destination port, id


def tsharks(path: Path) -> list[Message]:
    truth = path.parent.parent / "truth" / f"{path.name}.tsv"
    if not truth.exists():
        return []
    with truth.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    messages = [message(row) for row in rows if row["udp.srcport"]]
    return sorted(message for message in messages if 53 in message[1:3])


def message(row: dict[str, str]) -> Message:
    """One row; of several layers of UDP, tunnelled, the innermost holds the message."""
    seconds, nanoseconds = row["frame.time_epoch"].split(".")
    source, destination = (int(row[key].rsplit(",", 1)[-1]) for key in ("udp.srcport", "udp.dstport"))
    return int(seconds) * 10**9 + int(nanoseconds.ljust(9, "0")), source, destination, row["dns.id"]
