from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from corpus import CAPTURES, CORPUS, DNSTAP_FILES, EXCEPTIONS, Message, needs_corpus, tsharks
from dnstrail.errors import CaptureError
from dnstrail_probe.file_source import CaptureFile
from dnstrail_probe.sources import Source, open_source

pytestmark = needs_corpus


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


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_messages_are_tsharks(path):
    """Every UDP message on port 53 that tshark sees is ours, with its time, ports and id, and no other."""
    if path.name in EXCEPTIONS:
        assert Counter(ours(path)) < Counter(tsharks(path)), "no longer needed, or more than tshark sees"
    else:
        assert ours(path) == tsharks(path)


@pytest.mark.parametrize("path", DNSTAP_FILES, ids=lambda path: path.name)
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
