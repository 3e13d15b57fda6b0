from __future__ import annotations

from pathlib import Path

import pytest

from builders.corpus import CAPTURES, CORPUS, DNSTAP_FILES, Message, needs_corpus, ports_of, tsharks
from builders.dnstap_builders import tapped_in
from dnstrail.capture_options import CaptureOptions
from dnstrail.errors import CaptureError
from dnstrail.events import NET_PACKET_DNS
from dnstrail_probe.registry import open_source
from dnstrail_probe.source import Source
from dnstrail_probe.sources.capture_file import CaptureFileSource

pytestmark = needs_corpus


def drain(source: Source):
    messages = []
    while (batch := source.read(1)) is not None:
        messages += [event for topic, event in batch if topic == NET_PACKET_DNS]
    source.close()
    return messages


def ours(path: Path) -> list[Message]:
    return sorted(
        (event.timestamp, flow.source_port, flow.destination_port, f"0x{event.payload[:2].hex()}", flow.transport)
        for event in drain(CaptureFileSource(str(path), CaptureOptions(ports_of(path))))
        for flow in (event.flow,)
    )


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_messages_are_tsharks(path):
    """The messages of a capture are exactly those that tshark reads, with time, ports, id and transport."""
    assert ours(path) == tsharks(path)


@pytest.mark.parametrize("path", DNSTAP_FILES, ids=lambda path: path.name)
def test_dnstap_messages_are_protobufs(path):
    """The messages of a dnstap file are those that the protobuf library reads, with time, ports and payload."""
    assert [
        (event.timestamp, event.flow.source_port, event.flow.destination_port, event.payload)
        for event in drain(CaptureFileSource(str(path)))
    ] == tapped_in(path)


@pytest.mark.parametrize("name", ["README.md", "INDEX.tsv"])
def test_text_is_refused(name):
    """A file that is no capture is refused, and the error names the file."""
    with pytest.raises(CaptureError, match=name):
        CaptureFileSource(str(CORPUS / name))


def test_all_messages_of_tracee_are_read():
    """The capture made from tracee's events gives all its 24,010 messages, and nothing is skipped."""
    source = open_source(str(CORPUS / "tracee-dnsperf.pcap"))
    messages = drain(source)
    assert len(messages) == 24_010
    assert source.counters == {"packets": 24_010}
    assert all(event.timestamp > 2**31 * 10**9 for event in messages)
