"""Signatures that look up while a capture file is played: every lookup is as of its event, however fast the file is."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import wrpcap

from builders.corpus import CORPUS, needs_corpus
from builders.talk import answer
from live.processes import dnstrail, run_dir

APART = 120  # seconds: each answer has ended, with its grace, when the next one comes
SIGNATURE = """
from dnstrail import DataNotFound, EventSelector, Signature, SignatureMetadata

class Found(Signature):
    metadata = SignatureMetadata(id="T-1", version="1", name="Found", event_name="FOUND")
    selected_events = (EventSelector(name="net_packet_dns_response"),)

    def on_event(self, event):
        if event.answered is None or not event.addresses:
            return
        try:
            found = self.ctx.get_data_source("tracee", "dns").get(event.answered.name)
        except DataNotFound:
            self.report(event, state="missing")
        else:
            self.report(event, state="found" if found["ip_addresses"] else "without address")


class Answered(Signature):
    metadata = SignatureMetadata(id="T-2", version="1", name="Answered", event_name="ANSWERED")
    selected_events = (EventSelector(name="net_packet_dns_response"),)

    def on_event(self, event):
        if event.answered is not None and event.addresses:
            self.report(event, state="answered")
"""


def states(capture: Path) -> Counter[str]:
    """Play a file through a pipeline with the signatures, and count what they report."""
    with run_dir() as folder:
        signature = folder.parent / "found.py"
        signature.write_text(SIGNATURE)
        signature.chmod(0o644)
        options = ("--run-dir", folder, "--signatures", signature, "--events", "FOUND,ANSWERED", "--output", "json")
        done = dnstrail("replay", capture, *options)
    assert done.returncode == 0, done.stderr
    assert " 0 lost" in done.stderr
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    return Counter(arg["value"] for finding in findings for arg in finding["args"] if arg["name"] == "state")


def test_answers_that_are_far_apart_are_found(tmp_path):
    """A signature finds each of 2,000 names that are answered 120 seconds apart, every tenth out of order."""
    packets = []
    for number in range(2000):
        body = answer("192.0.2.1", name=f"n{number % 200}.example", id_=number)
        packet = Ether() / IP(src="10.0.0.53", dst="10.0.0.2") / UDP(sport=53, dport=40000) / Raw(body)
        packet.time = 1_700_000_000 + APART * number - (APART + 1 if number % 10 == 9 else 0)
        packets.append(packet)
    wrpcap(str(tmp_path / "apart.pcap"), packets)
    assert states(tmp_path / "apart.pcap") == {"found": 2000, "answered": 2000}


@pytest.mark.parametrize("runs", [pytest.param(3, marks=needs_corpus)])
def test_each_run_has_the_findings_of_a_signature_without_lookups(runs):
    """Of a load test each run finds the same names: those of a signature that looks nothing up."""
    found = [states(CORPUS / "tracee-dnsperf.pcap") for _ in range(runs)]
    assert found[0]["answered"] > 1000
    assert found == [{"found": found[0]["answered"], "answered": found[0]["answered"]}] * runs
