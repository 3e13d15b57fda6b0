"""The test run of a signature passes selected events on, answers lookups, and collects findings."""

from __future__ import annotations

import json

import pytest

from dnstrail.captured import Process
from dnstrail.errors import DataNotFound, KeyNotSupported
from dnstrail.events import SCHED_PROCESS_EXIT
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail.testing import SignatureRun, dns_response, event

RESULT = {"ip_addresses": ["192.0.2.1"], "dns_queries": ["a.example"], "dns_root": "a.example"}


class Looking(Signature):
    """Reports what the data source has on the name of a process, and counts signals."""

    metadata = SignatureMetadata("L-1", "1", "Looking", "LOOKED")
    selected_events = (EventSelector(name=SCHED_PROCESS_EXIT, origin="container"),)
    signals: tuple[str, ...] = ()

    def on_event(self, event):
        self.report(event, **self.ctx.get_data_source("tracee", "dns").get(event.process_name))

    def on_signal(self, signal):
        self.signals += (signal.name,)

    def close(self):
        self.signals += ("closed",)


def exited(name, container="c0ffee"):
    return event(SCHED_PROCESS_EXIT, process=Process(1, name, container_id=container), at=5.0, args={"exit_code": 3})


def test_findings_of_selected_events_are_collected():
    """An event that the signature does not select leads to nothing."""
    run = SignatureRun(Looking, lookups={"a.example": RESULT})
    assert run.event(exited("a.example", container="")) == []
    [finding] = run.event(exited("a.example"))
    assert (finding.data, finding.event.arg("exit_code"), finding.event.timestamp) == (RESULT, 3, 5 * 10**9)
    assert (run.findings, run.dns.asked) == ([finding], ["a.example"])


def test_a_key_without_a_result_is_not_found():
    """The errors of the data source, and those of the signature, reach the test."""
    run = SignatureRun(Looking)
    with pytest.raises(DataNotFound):
        run.event(exited("b.example"))
    with pytest.raises(KeyNotSupported):
        run.dns.get(1)


def test_the_data_source_describes_itself_as_that_of_a_cache():
    """Schema, keys and version are those of the real data source."""
    dns = SignatureRun(Looking).dns
    assert (json.loads(dns.schema())["dns_root"], dns.keys(), dns.version()) == ("string", ["string"], 1)


def test_signals_and_the_end_reach_the_signature():
    """A test can end a source, and the run."""
    run = SignatureRun(Looking)
    run.signal("source_complete")
    run.close()
    assert run.signature.signals == ("source_complete", "closed")


def test_a_response_is_an_event_of_its_question():
    """The question has a type, A by default, and the records are its answers."""
    found = dns_response("A.example MX", "a.example 60 MX 5 mx.example.", at=2.0)
    assert (found.question.name, found.question.type) == ("a.example", 15)
    assert [(one.owner, one.ttl, one.target) for one in found.answers] == [("a.example", 60, "mx.example")]
    assert dns_response("a.example").question.type == 1
