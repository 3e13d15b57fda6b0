"""What the worker keeps of facts and findings: bounded, and nothing that a stranger sends ends it."""

from __future__ import annotations

import json
from collections import deque
from unittest.mock import MagicMock

import pytest

from dnstrail_web import worker as module
from dnstrail_web.health import Health
from dnstrail_web.worker import WebWorker
from live.workers import FakeClock, Messages


class Sent:
    """The readers, who want all messages."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, object]] = []

    def wanted(self) -> bool:
        return True

    def publish(self, kind: str, data: bytes) -> None:
        self.messages.append((kind, json.loads(data)))

    def skip(self) -> None:
        raise AssertionError

    def check(self) -> None:
        pass


@pytest.fixture
def parts():
    facts, findings, kept, sent = MagicMock(subscriber=Messages()), Messages(), deque(), Sent()
    return WebWorker(facts, findings, sent, Health(), kept, FakeClock()), facts.subscriber, findings, kept, sent


def test_findings_are_bounded(parts, monkeypatch):
    """Beyond the bounds of number and bytes the oldest findings are forgotten."""
    worker, _, findings, kept, sent = parts
    monkeypatch.setattr(module, "MOST_FINDINGS", 3)
    findings.waiting += [("finding", b'{"n":%d}' % number) for number in range(5)]
    worker.step()
    assert [*kept] == [{"n": 2}, {"n": 3}, {"n": 4}]
    assert sent.messages == [("findings", [{"n": number} for number in range(5)])]
    monkeypatch.setattr(module, "MOST_BYTES_OF_FINDINGS", 100)
    findings.waiting.append(("finding", b'{"n":"%s"}' % (b"a" * 90)))
    worker.step()
    assert len(kept) == 1


def test_bad_findings_are_counted(parts):
    """A finding that is too long, or is none, is counted; the others arrive."""
    worker, _, findings, kept, _ = parts
    bad = [b"", b"{", b"[]", b"\xff", b"[" * 10_000, b'{"n":"%s"}' % (b"a" * module.LONGEST_FINDING)]
    findings.waiting += [("finding", body) for body in (*bad, b"{}")]
    worker.step()
    assert (worker.counters["bad_findings"], [*kept]) == (len(bad), [{}])


def test_bad_facts_are_counted(parts):
    """What is no batch of facts is counted."""
    worker, facts, _, _, _ = parts
    facts.waiting += [("dns_transaction", b"\xff"), ("net_connection", b""), ("turn", b"\x00"), ("other", b"")]
    worker.step()
    assert worker.counters["bad_facts"] == 3


def test_a_message_of_the_feed_is_bounded(parts, monkeypatch):
    """Entries beyond the bytes of one message are left out, and a notice counts them."""
    worker, _, findings, _, sent = parts
    monkeypatch.setattr(module, "MOST_BYTES", 50)
    findings.waiting += [("finding", b'{"n":"%s"}' % (b"a" * 20)) for _ in range(5)]
    worker.step()
    assert [kind for kind, _ in sent.messages] == ["findings", "notice"]
    assert len(sent.messages[0][1]) == 1
    assert sent.messages[1][1] == {"reason": "lost", "missed": 4}
    assert worker.counters["left_out"] == 4
