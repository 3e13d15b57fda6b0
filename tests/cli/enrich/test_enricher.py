"""Tests of dnstrail_cli.enrich.enricher."""

from __future__ import annotations

import json

import pytest

from dnstrail_cli.enrich import enricher as module
from dnstrail_cli.enrich.enricher import COUNTS, SETTLED, Enricher
from dnstrail_cli.enrich.formats import read_event
from dnstrail_cli.enrich.lines import Piece
from live.workers import FakeClock

WALL = 1_793_534_500.0


class Tool:
    """An enricher whose cache answers `trail` for every connection; `asked` holds the connections of each lookup."""

    def __init__(self) -> None:
        self.clock = FakeClock(WALL)
        self.trail: dict | None = {"dns_root": "shop.example", "state": "live"}
        self.asked: list[list[dict]] = []
        self.enricher = Enricher(read_event, self._ask, self.clock.monotonic, self.clock.wall)

    def _ask(self, connections):
        self.asked.append([*connections])
        return None if self.trail is None else [self.trail] * len(connections)

    def add(self, *raw):
        self.enricher.add([Piece(one) for one in raw])

    def take(self):
        """Return all that may leave."""
        return b"".join(iter(self.enricher.take, b""))

    @property
    def counts(self):
        return {name: count for name, count in self.enricher.counts.items() if count}


@pytest.fixture
def tool():
    return Tool()


def zeek(last=1, ts=WALL - 60, **more):
    return json.dumps({"id.resp_h": f"192.0.2.{last}", "ts": ts, **more}).encode()


ADDED = b',"destination.domain":"shop.example","dnstrail":{"state":"live"}'


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \n", b""])
def test_a_line_keeps_its_bytes(tool, end):
    """The fields stand before the last bracket; every other byte of the line remains."""
    raw = b' {"x": "\xc3\xa9}" , "id.resp_h":"192.0.2.1","ts":1.0,  "n": 1e2 }' + end
    tool.add(raw)
    assert tool.take() == raw[: -1 - len(end)] + ADDED + b"}" + end


def test_other_lines_pass_as_they_are(tool):
    """Lines that are no JSON object, too deep, without a connection or enriched before pass unchanged, and count."""
    deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n"
    others = [b"\n", b"x\n", b"[1]\n", b"\xff\xfe{}\n", b"\0\n", b'{"a":NaN}\n', b'{"a":"\\ud800"}x\n', deep, b"{}\n"]
    lines = [*others, zeek(dnstrail=1) + b"\n"]
    tool.add(*lines)
    tool.enricher.add([Piece(b"y" * 9, whole=False), Piece(b"y\n", whole=False, first=False)])
    assert tool.take() == b"".join(lines) + b"y" * 10 + b"\n"
    assert tool.counts == {"no JSON": 8, "without a connection": 1, "enriched before": 1, "too long": 1}
    assert tool.asked == []


@pytest.mark.parametrize("field", [{"destination.domain": "x"}, {"destination": {"ip": "192.0.2.1", "domain": "x"}}])
def test_a_domain_of_the_tool_stays_the_only_one(tool, field):
    """A line that has a `destination.domain`, with dots or in its object, gets no second one."""
    tool.add(zeek(**field))
    pairs = json.loads(tool.take(), object_pairs_hook=list)
    assert [name for name, _ in pairs][-2:] == [*field, "dnstrail"]
    assert pairs[-1] == ("dnstrail", [("state", "live")])


@pytest.mark.parametrize("others", [{"ip": "192.0.2.1"}, "x", None])
def test_a_destination_without_a_domain_gets_one(tool, others):
    """A `destination` that has no domain, or is no object, stays as it is beside the domain."""
    tool.add(zeek(destination=others))
    event = json.loads(tool.take())
    assert (event["destination"], event["destination.domain"]) == (others, "shop.example")


def test_a_name_is_no_more_than_text(tool):
    """A name with quotes, control bytes and separators of lines adds one field, and no line."""
    tool.trail = {"dns_root": 'a"},\n\x7f\u2028\\'}
    tool.add(zeek())
    out = tool.take()
    assert json.loads(out)["destination.domain"] == tool.trail["dns_root"]
    assert out.isascii()
    assert b"\n" not in out


def test_without_a_name_the_state_says_so(tool):
    """An unknown name adds no domain; `history` states that it may have been known."""
    tool.trail = {"history": False}
    tool.add(zeek())
    assert tool.take().endswith(b',"dnstrail":{"history":false,"state":"unknown"}}')
    assert tool.counts == {"unnamed": 1}


def test_a_young_event_waits_and_holds_back_those_behind_it(tool):
    """A line leaves half a second after its event, and no line overtakes it: also with a clock that is ahead."""
    for ahead in (0, 3600):
        tool.add(zeek(ts=tool.clock.wall() + ahead) + b"\n", b"other\n")
        assert (tool.take(), tool.enricher.due) == (b"", pytest.approx(SETTLED, abs=1e-5))
        tool.clock.advance(SETTLED)
        assert tool.take().splitlines()[1] == b"other"
        assert tool.enricher.due is None


def test_a_stop_takes_lines_that_wait(tool):
    """With `at_once` lines leave before they are due."""
    tool.add(zeek(ts=WALL))
    assert tool.enricher.take(at_once=True) != b""


def test_a_connection_is_asked_once_for_a_time(tool):
    """The answer for a connection as of a settled time remains; another time, or none, is another lookup."""
    for _ in range(3):
        tool.add(zeek(), zeek(), zeek(ts=WALL - 50), zeek(ts=None))
        tool.clock.advance(SETTLED)
        tool.take()
    assert [len(one) for one in tool.asked] == [3, 1, 1]
    assert tool.counts == {"named": 12}


@pytest.mark.parametrize(("trail", "ts"), [({"history": False}, WALL - 60), ({"dns_root": "a"}, WALL + 3600)])
def test_an_answer_that_may_change_is_asked_again(tool, trail, ts):
    """An answer with an incomplete history, or of a time to come, does not remain."""
    tool.trail = trail
    for _ in range(2):
        tool.add(zeek(ts=ts))
        tool.clock.advance(SETTLED)
        tool.take()
    assert len(tool.asked) == 2


def test_the_answers_that_remain_are_bounded(tool, monkeypatch):
    """Beyond the bound the oldest answer is evicted, and asked for again."""
    monkeypatch.setattr(module, "MOST_KNOWN", 2)
    for last in (1, 2, 3, 3, 1):
        tool.add(zeek(last))
        tool.take()
    assert [one["address"][-1] for [one] in tool.asked] == ["1", "2", "3", "1"]


def test_without_a_cache_lines_pass_as_they_are(tool):
    """Lines that nobody answers pass unchanged, and count; later ones are asked for again."""
    tool.trail = None
    tool.add(zeek(), b"x", zeek(2))
    assert tool.take() == zeek() + b"x" + zeek(2)
    assert tool.counts == {"not asked": 2, "no JSON": 1}
    assert set(tool.enricher.counts) == set(COUNTS)


@pytest.mark.parametrize("rest", [[b"x" * 4000], [b"\n"] * 9], ids=["bytes", "empty lines"])
def test_lines_that_wait_are_bounded(tool, monkeypatch, rest):
    """An enricher is full at its bound, also of empty lines, and has room again when they have left."""
    monkeypatch.setattr(module, "MOST_HELD", 4000)
    tool.add(zeek(ts=WALL))
    assert not tool.enricher.full
    tool.add(*rest)
    assert tool.enricher.full
    tool.clock.advance(SETTLED)
    tool.take()
    assert not tool.enricher.full
