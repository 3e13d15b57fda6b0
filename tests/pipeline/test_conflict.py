from __future__ import annotations

import json

import dns.message
import pytest

from builders.capture_files import RAW_IPV4, pcap, udp
from live.processes import dnstrail, run_dir
from live.workers import response

CLIENT, SERVER = ("192.0.2.100", 40000), ("192.0.2.53", 53)
SECOND = 1_793_534_400


@pytest.fixture
def capture(tmp_path):
    """Return a query, its answer, and 10 ms later another answer to the same query that shares no address with it."""
    name = "bank.example"
    query = dns.message.make_query(name, "A", id=1).to_wire()
    first = response(name, f"{name} 300 A 192.0.2.1")
    second = response(name, f"{name} 300 A 198.51.100.6")
    packets = [
        (SECOND, 0, udp(CLIENT, SERVER, query)),
        (SECOND, 20_000, udp(SERVER, CLIENT, first)),
        (SECOND, 30_000, udp(SERVER, CLIENT, second)),
    ]
    path = tmp_path / "conflict.pcap"
    path.write_bytes(pcap(*packets, linktype=RAW_IPV4))
    return path


def test_second_answer_with_other_targets_is_an_event(capture):
    """A second answer to one query that shares no target with the first is a dns_answer_conflict event."""
    with run_dir() as folder:
        done = dnstrail("replay", capture, "--run-dir", folder, "--events", "dns_answer_conflict", "--output", "json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["eventName"] for event in events] == ["dns_answer_conflict"]
    message = next(arg["value"] for arg in events[0]["args"] if arg["name"] == "proto_dns")
    assert [answer["IP"] for answer in message["answers"]] == ["198.51.100.6"]


SIGNATURES = """
from dnstrail import EventSelector, Signature, SignatureMetadata

class Conflict(Signature):
    metadata = SignatureMetadata(id="T-1", version="1", name="Conflict", event_name="CONFLICT")
    selected_events = (EventSelector(name="dns_answer_conflict"),)

    def on_event(self, event):
        dns = self.ctx.get_data_source("tracee", "dns")
        first = dns.get(event.question.name)["ip_addresses"]
        self.report(event, name=event.question.name, second=[one.target for one in event.answers], known=first)

class Chained(Signature):
    metadata = SignatureMetadata(id="T-2", version="1", name="Chained", event_name="CHAINED")
    selected_events = (EventSelector(name="CONFLICT"),)

    def on_event(self, event):
        self.report(event, name=event.arg("name"))
"""


def test_signatures_select_conflicts_and_findings(capture):
    """A signature receives the conflicts that the cache finds, and another one the findings of the first."""
    with run_dir() as folder:
        file = folder.parent / "conflict.py"
        file.write_text(SIGNATURES)
        file.chmod(0o644)
        events = ("--signatures", file, "--events", "CONFLICT,CHAINED", "--output", "json")
        done = dnstrail("replay", capture, "--run-dir", folder, *events)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["eventName"] for event in found] == ["CONFLICT", "CHAINED"]
    args = {arg["name"]: arg["value"] for arg in found[0]["args"]}
    assert (args["name"], args["second"]) == ("bank.example", ["198.51.100.6"])
    assert sorted(args["known"]) == ["192.0.2.1", "198.51.100.6"]


@pytest.mark.parametrize(
    ("unmatched", "addresses"),
    [("auto", ["198.51.100.6", "192.0.2.1"]), ("accept", ["198.51.100.6", "192.0.2.1"]), ("reject", ["192.0.2.1"])],
)
def test_unmatched_selects_what_happens_to_an_answer_without_a_query(capture, unmatched, addresses):
    """In a file auto and accept keep an answer without a query, and reject drops it."""
    done = dnstrail("get", "--json", "--capture", capture, "--dnscache", f"unmatched={unmatched}", "bank.example")
    assert json.loads(done.stdout)["ip_addresses"] == addresses
