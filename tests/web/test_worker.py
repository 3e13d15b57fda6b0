"""What the worker keeps of facts and findings: bounded, and nothing that a stranger sends ends it."""

from __future__ import annotations

import json
from collections import Counter, deque
from unittest.mock import MagicMock

import msgspec
import pytest
from msgspec.structs import astuple

from builders.facts import BEGIN, fact_of, stage_of
from dnstrail.captured import Captured
from dnstrail.events import DNS_TRANSACTION, NET_CONNECTION
from dnstrail.history.fact import Fact, StageFact
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail.protocol.facts import packed_fact
from dnstrail_web import worker as module
from dnstrail_web.health import Health
from dnstrail_web.worker import WebWorker
from live.workers import FakeClock, Messages


class Sent:
    """The readers, who want all messages until `is_wanted` is false."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, object]] = []
        self.is_wanted = True
        self.skips = 0

    def wanted(self) -> bool:
        return self.is_wanted

    def publish(self, kind: str, data: bytes) -> None:
        self.messages.append((kind, json.loads(data)))

    def skip(self) -> None:
        assert not self.is_wanted
        self.skips += 1

    def check(self) -> None:
        pass


@pytest.fixture
def parts():
    facts, findings, kept, sent = MagicMock(subscriber=Messages()), Messages(), deque(), Sent()
    return WebWorker(facts, findings, sent, Health(), kept, FakeClock()), facts.subscriber, findings, kept, sent


class Cache:
    """A start of a cache, whose messages a worker receives."""

    def __init__(self, start: str, facts: Messages) -> None:
        self._start = start
        self._facts = facts
        self._turns = 0
        self._ended: Counter[str] = Counter()

    def turn(self, *facts: Fact | StageFact) -> None:
        """Publish facts, and the end of their turn."""
        for topic, kind in ((DNS_TRANSACTION, Fact), (NET_CONNECTION, StageFact)):
            if events := [travelling(one) for one in facts if isinstance(one, kind)]:
                batch = Batch(self._start, self._turns, self._ended[topic], events, host="web1")
                self._ended[topic] += 1
                self._facts.waiting.append((topic, encode(batch)))
        last = {topic: count - 1 for topic, count in self._ended.items()}
        self._facts.waiting.append((TURN, encode(Turn(self._start, self._turns, last, live=True, now=BEGIN))))
        self._turns += 1


def travelling(fact: Fact | StageFact) -> Captured:
    """Return a fact as it travels."""
    values = msgspec.to_builtins(astuple(fact.values), builtin_types=(bytes,))
    return packed_fact(fact.time, fact.flow, fact.process, values)


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


@pytest.mark.parametrize(("most", "kind"), [(module.MOST_BYTES, "findings"), (1, "notice")])
def test_facts_are_skipped_after_any_message(parts, monkeypatch, most, kind):
    """A reader may resume with the id of any message: once nobody reads, the first skipped facts after it are noted."""
    worker, facts, findings, _, sent = parts
    monkeypatch.setattr(module, "MOST_BYTES", most)
    cache = Cache("a", facts)
    cache.turn()
    findings.waiting.append(("finding", b"{}"))
    worker.step()
    assert [kind for kind, _ in sent.messages] == [kind]
    sent.is_wanted = False
    for number in range(3):
        cache.turn(fact_of(number))
        worker.step()
    assert sent.skips == 1


def test_a_fact_that_is_published_again_counts_once(parts):
    """A cache that starts anew publishes its last facts again: outcomes and the feed have each once."""
    worker, facts, _, _, sent = parts
    for start in ("a", "b"):
        cache = Cache(start, facts)
        cache.turn()
        cache.turn(fact_of(1), stage_of(1), stage_of(1, "end"))
    cache.turn(fact_of(2), stage_of(2))
    worker.step()
    [bucket] = worker._health.shown(0, float("inf"))
    assert [one["outcomes"] for one in bucket["resolvers"].values()] == [{"answered": 2}]
    ids = {kind: [one["id"].split("/", 2)[2] for one in entries] for kind, entries in sent.messages}
    assert ids == {"questions": ["0/1/end", "0/2/end"], "connections": ["0/1/opened", "0/1/end", "0/2/opened"]}


@pytest.mark.parametrize("is_empty", [True, False])
def test_a_missed_turn_is_noticed_if_it_had_facts(parts, is_empty):
    """The feed states how many facts were lost; a turn without facts that was missed is no loss."""
    worker, facts, _, _, sent = parts
    cache = Cache("a", facts)
    cache.turn()
    worker.step()
    cache.turn(*([] if is_empty else [fact_of(1)]))
    facts.waiting.clear()
    cache.turn(fact_of(2))
    worker.step()
    worker.close()
    notices = [one for kind, one in sent.messages if kind == "notice"]
    assert notices == ([] if is_empty else [{"reason": "lost", "missed": 1}])


def test_a_fact_of_no_event_is_refused(parts):
    """A fact whose id names no event is counted as bad, and costs no other."""
    worker, facts, _, _, sent = parts
    cache = Cache("a", facts)
    cache.turn()
    cache.turn(fact_of(1, id=f"s/0/{1 << 60}"), fact_of(2))
    worker.step()
    assert worker.counters["bad_facts"] == 1
    assert [len(entries) for _, entries in sent.messages] == [1]
