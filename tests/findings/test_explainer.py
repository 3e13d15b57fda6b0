"""What explains a finding: its trail as of its event, and commands."""

from __future__ import annotations

import shlex
from typing import Any

import dns.message
import dns.name
import pytest

from builders.findings import CURL, STAMP, cause_of, connection, dns_answer, finding_of, transaction
from dnstrail.captured import Captured
from dnstrail.client import LookupClient
from dnstrail.errors import DataNotFound, LookupRefused, Unavailable
from dnstrail.events import SCHED_PROCESS_EXIT, Event
from dnstrail_findings import explainer as module
from dnstrail_findings.explainer import REST, SLOW, Explainer
from live.workers import BOUND, cache, open_bus, probe, response, short_folder

STEPS = [
    {"owner": "shop.example", "kind": "CNAME", "target": "relay.example"},
    {"owner": "relay.example", "kind": "A", "target": "198.51.100.66"},
]


def trail(root: str, steps: list[Any], *, rival: bool) -> dict[str, Any]:
    return {"dns_root": root, "state": "live", "scope": "process", "reasons": ["x"], "steps": steps, "rival": rival}


class Cache:
    """Lookups that answer as a test sets it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    def ask(self, op: str, *, after: Any, patience: float, **fields: Any) -> Any:
        """Return the answer, or raise it."""
        self.asked.append({"op": op, "after": after, "patience": patience, **fields})
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


FOUND = {"trails": [trail("shop.example", STEPS, rival=False), trail("b.example", [], rival=True)]}
AWAY = Unavailable("ipc:///x", 0.5)


def test_a_name_that_was_escaped_is_looked_up_as_it_is() -> None:
    """The names of a transaction are escaped: its trail is the one of the name that was asked."""
    name, cache = r"www\.bank\.example.\200.evil.example", Cache(FOUND)
    found = finding_of(transaction(name, relations=[]))
    Explainer(cache).explain(found)
    assert cache.asked[0]["key"] == name
    assert shlex.split(found.explained["next"][0])[:3] == ["dnstrail", "trail", name]


def test_a_finding_has_its_likeliest_path_and_its_rivals() -> None:
    """The trail of the address of an answer is asked as of the event, for its process and client."""
    cache, found = Cache(FOUND), finding_of()
    Explainer(cache).explain(found)
    assert found.explained["trail"] == {
        "key": "198.51.100.66",
        "path": "shop.example CNAME relay.example A 198.51.100.66",
        "dns_root": "shop.example",
        "state": "live",
        "scope": "process",
        "reasons": ["x"],
        "rivals": ["b.example"],
    }
    [asked] = cache.asked
    assert (asked["op"], asked["key"], asked["after"], asked["event"]) == (
        "trail",
        "198.51.100.66",
        [("s", 5)],
        ("s", STAMP),
    )
    assert (asked["process"], asked["container"], asked["client"]) == (4711, "c0ffee", "192.0.2.100")
    assert "port" not in asked


def test_a_connection_is_asked_with_its_port() -> None:
    """The trail of a connection is asked for its address and port."""
    cache = Cache(FOUND)
    Explainer(cache).explain(finding_of(connection()))
    assert (cache.asked[0]["key"], cache.asked[0]["port"]) == ("198.51.100.66", 443)


def test_a_finding_without_an_address_has_no_trail() -> None:
    """A finding about a process asks nothing."""
    cache, found = Cache(FOUND), finding_of(Event(SCHED_PROCESS_EXIT, Captured(STAMP, process=CURL), ("s", 1)))
    Explainer(cache).explain(found)
    assert (cache.asked, found.explained) == ([], {"trail": None, "next": []})


def test_commands_lead_on() -> None:
    """A finding names the commands that show more, as of its time."""
    found = finding_of()
    Explainer(None).explain(found)
    assert found.explained["trail"] is None
    assert found.explained["next"] == [
        "dnstrail trail 198.51.100.66 --at 2026-11-01T12:00:05.012345Z --connection process=4711",
        "dnstrail get shop.example --at 2026-11-01T12:00:05.012345Z",
    ]


def test_a_hostile_name_is_one_word_of_a_command() -> None:
    """A name with blanks, quotes and shell syntax is one argument, without control bytes."""
    name = dns.name.Name((b"';reboot $(x)`\n\x1b[0m", b""))
    found = finding_of(cause_of(dns.message.make_query(name, "A").to_wire()))
    Explainer(None).explain(found)
    [command] = found.explained["next"]
    assert command.isprintable()
    assert len(shlex.split(command)) == 7
    assert shlex.split(command)[2] == r"';reboot\032$(x)`\010\027[0m"


def test_a_cache_that_is_away_is_left_alone() -> None:
    """After a lookup without an answer none is sent for a while; the findings meanwhile are counted."""
    now = [0.0]
    cache = Cache(AWAY)
    explainer = Explainer(cache, lambda: now[0])
    for now[0] in (0.0, 1.0, REST - 0.1, REST):
        explainer.explain(finding_of())
    assert (len(cache.asked), explainer.counters["unexplained"]) == (2, 4)


@pytest.mark.parametrize(("took", "asked"), [(SLOW / 2, 10), (0.5, 1)])
def test_a_slow_cache_is_left_alone_for_as_long(took: float, asked: int) -> None:
    """After a slow lookup there is none for as long as it took, so that findings do not pile up."""
    now = [0.0]

    class Slow(Cache):
        def ask(self, *args: Any, **fields: Any) -> Any:
            now[0] += took
            return super().ask(*args, **fields)

    cache = Slow(FOUND)
    explainer = Explainer(cache, lambda: now[0])
    for _ in range(10):
        explainer.explain(finding_of())
    assert (len(cache.asked), explainer.counters["unexplained"]) == (asked, 10 - asked)


@pytest.mark.parametrize(
    "answer", [LookupRefused("bad", "x"), {}, {"trails": []}, {"trails": [{}]}, None, {"trails": [5]}]
)
def test_a_strange_reply_leaves_a_finding_without_a_trail(answer: Any) -> None:
    """A reply that no cache of ours sends is counted, and the next finding asks again."""
    cache, found = Cache(answer), finding_of()
    explainer = Explainer(cache)
    explainer.explain(found)
    explainer.explain(finding_of())
    assert found.explained["trail"] is None
    assert (len(cache.asked), explainer.counters["unexplained"]) == (2, 2)


def test_what_the_cache_does_not_know_is_no_fault() -> None:
    """An address without a trail is not counted."""
    explainer, found = Explainer(Cache(DataNotFound("x"))), finding_of(cause_of(dns_answer()))
    explainer.explain(found)
    assert (found.explained["trail"], explainer.counters["unexplained"]) == (None, 0)


def test_a_real_cache_explains_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trail of a finding that arrives at once is the trail as of its event, and not of an earlier image."""
    monkeypatch.setattr(module, "PATIENCE", BOUND)
    with short_folder() as folder, cache(folder) as address, probe(folder) as publishing, open_bus() as bus:
        explainer = Explainer(LookupClient(address, bus=bus, timeout=BOUND), lambda: 0.0)
        for number in range(20):
            at, target = STAMP + number * 2 * 10**9, f"198.51.100.{number}"
            payload = dns_answer(f"n{number}.example", address=target)
            found = finding_of(cause_of(payload, mark=publishing.next_mark, at=at))
            publishing.turn(Captured(at, payload))
            publishing.turn(Captured(at + 10**9, response("late.example", f"late.example 60 A {target}")))
            explainer.explain(found)
            assert found.explained["trail"]["path"] == f"n{number}.example CNAME relay.example A {target}"
            assert "late.example" not in found.explained["trail"]["rivals"]
        assert explainer.counters["unexplained"] == 0
