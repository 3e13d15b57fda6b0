from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from dnstrail.errors import CaptureError
from dnstrail_probe.file_source import CaptureFile
from dnstrail_probe.sources import Source, open_source

CORPUS = Path(os.environ["DNSTRAIL_CORPUS"]) if "DNSTRAIL_CORPUS" in os.environ else None
CAPTURES = sorted((CORPUS / "captures").iterdir()) if CORPUS else []
DNSTAP = {".fstrm", ".dnstap"}

pytestmark = [
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


def drain(source: Source):
    messages = []
    while (batch := source.read(1)) is not None:
        messages += [event for _, event in batch]
    source.close()
    return messages


def ours(path: Path) -> list[Message]:
    return sorted(
        (event.timestamp, event.flow.source_port, event.flow.destination_port, "0x" + event.payload[:2].hex())
        for event in drain(CaptureFile(str(path)))
    )


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


@pytest.mark.parametrize("path", [path for path in CAPTURES if path.suffix not in DNSTAP], ids=lambda path: path.name)
def test_messages_are_tsharks(path):
    """Every UDP message on port 53 that tshark sees is ours, with its time, ports and id, and no other."""
    if path.name in EXCEPTIONS:
        assert Counter(ours(path)) < Counter(tsharks(path)), "no longer needed, or more than tshark sees"
    else:
        assert ours(path) == tsharks(path)


@pytest.mark.parametrize("path", [path for path in CAPTURES if path.suffix in DNSTAP], ids=lambda path: path.name)
def test_dnstap_is_refused_with_its_name(path):
    """A dnstap file is no capture file, and the error says what it is."""
    with pytest.raises(CaptureError, match="dnstap"):
        CaptureFile(str(path))


@pytest.mark.parametrize("name", ["README.md", "INDEX.tsv"])
def test_text_is_refused(name):
    """A file that is no capture is refused, and the error names the file."""
    with pytest.raises(CaptureError, match=name):
        CaptureFile(str(CORPUS / name))


def test_exceptions_are_few_and_there():
    """The table of exceptions stays short and names captures of the corpus alone."""
    assert len(EXCEPTIONS) <= 8
    assert set(EXCEPTIONS) <= {path.name for path in CAPTURES}


def test_tracees_messages_are_all_there():
    """The large capture made from tracee's events gives all its 24,010 messages, and passes nothing over."""
    source = open_source(str(CORPUS / "tracee-dnsperf.pcap"))
    messages = drain(source)
    assert len(messages) == 24_010
    assert source.counters == {"packets": 24_010}
    assert all(event.timestamp > 2**31 * 10**9 for event in messages)
