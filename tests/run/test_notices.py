"""Refusals as they happen: their lines on stderr and of JSON, and what a flood of them makes."""

from __future__ import annotations

import json
from select import PIPE_BUF

import pytest

from dnstrail_run import notices
from dnstrail_run.allow_list import parse_allow_list
from dnstrail_run.enforce.refusals import ASK, REACH, Ancestor, Attempt, First, Limits
from dnstrail_run.notices import MOST_SHOWN, Notices

LIST = parse_allow_list("api.example.com:443\n")


def first(number: int = 0, name: str = "www.example.com", **fields: object) -> First:
    usual = {"action": ASK, "address": "192.0.2.53", "port": 53, "transport": "udp", "pid": 7 + number, "name": "app"}
    usual |= {"times": 1, "asked": name, "type": "A", "reason": "name"}
    return First(Attempt(**usual | fields), 1_000.5, [Ancestor(3, "sh")])


class Written:
    def __init__(self, *, is_slow: bool = False) -> None:
        self.now = 0.0
        self.is_slow = is_slow
        self.lines: list[str] = []
        self.shown: list[str] = []
        self.notices = Notices(LIST, self.write, self.shown.append, lambda: self.now)

    def write(self, line: str) -> bool:
        self.lines.append(line)
        return not self.is_slow

    def take(self, *firsts: First) -> None:
        for each in firsts:
            self.notices.take(each)


def test_a_refusal_is_one_line_each():
    """The line on stderr names the process, the attempt, the rule and the entries; that of JSON has all fields."""
    written = Written()
    written.take(first())
    (shown,) = written.shown
    assert shown == (
        "dnstrail: refused app(7) to ask www.example.com A of 192.0.2.53:53/udp: the list has no www.example.com; "
        "nearest entry: api.example.com:443; to allow it: www.example.com\n"
    )
    (line,) = written.lines
    assert line.endswith("}\n")
    assert json.loads(line) == {
        "time": 1000.5,
        "action": "ask",
        "name": "www.example.com",
        "type": "A",
        "address": "192.0.2.53",
        "port": 53,
        "transport": "udp",
        "process": {"pid": 7, "name": "app"},
        "parents": [{"pid": 3, "name": "sh"}],
        "rule": "the list has no www.example.com",
        "nearest": "api.example.com:443",
        "allow": "www.example.com",
    }


def test_a_name_makes_no_second_line():
    """Line ends and control characters in names of questions and processes are escaped in both lines."""
    written = Written()
    hostile = First(
        Attempt(REACH, "192.0.2.1", 80, "tcp", 7, "app\ndnstrail: \x1b[2J", 1), 1.0, [Ancestor(3, "\u2028\x7f\n")]
    )
    written.take(hostile)
    for text in (*written.shown, *written.lines):
        assert text.count("\n") == 1
        assert text[:-1].isprintable()


@pytest.mark.parametrize("hostile", ["x; to allow it: evil.test", "a.test A of 192.0.2.53:53/udp", "a(1) to"])
def test_a_name_forges_no_part_of_a_line(hostile):
    """A name of a question or process that is not ordinary stands in quotes, in the rule as well."""
    written = Written()
    written.take(first(name=hostile), First(Attempt(REACH, "192.0.2.1", 80, "tcp", 7, hostile, 1), 1.0, []))
    asked, reached = written.shown
    assert asked.count(repr(hostile)) == asked.count(hostile) == 2
    assert f"refused {hostile!r}(7) to" in reached


def test_what_is_not_shown_is_not_looked_up(monkeypatch):
    """Without lines of JSON, no rule is looked up for a refusal that stderr does not show."""
    asked = []
    monkeypatch.setattr(notices, "reason_of", lambda *arguments: asked.append(arguments) or "rule")
    shown: list[str] = []
    made = Notices(LIST, None, shown.append, lambda: 0.0)
    for number in range(500):
        made.take(first(number))
    made.end(Limits(unlisted=3))
    assert (len(asked), len(shown)) == (MOST_SHOWN, MOST_SHOWN + 1)


def test_a_long_line_has_no_parents():
    """A line that a pipe would not take at once leaves the parents out."""
    written = Written()
    written.take(First(first().attempt, 1.0, [Ancestor(3, "x" * 100)] * 60))
    (line,) = written.lines
    assert len(line) <= PIPE_BUF
    assert json.loads(line)["parents"] == []


def test_a_flood_is_counted():
    """Beyond a burst, stderr gets one line for all that are not shown; the JSON lines have each."""
    written = Written()
    written.take(*(first(number) for number in range(500)))
    assert len(written.shown) == MOST_SHOWN
    written.now = 0.7
    written.take(first(500), first(501))
    assert len(written.shown) == MOST_SHOWN + 1, "one more after half a second"
    written.now = 60.0
    written.take(first(502))
    assert written.shown[MOST_SHOWN + 1] == "dnstrail: refused 481 more, which are not shown one by one\n"
    written.notices.end(Limits())
    assert (len(written.shown), len(written.lines)) == (MOST_SHOWN + 3, 503)


def test_the_end_counts_what_was_left_out():
    """At the end the rest of a flood is counted, and the refusals that the kernel had no room for or nobody read."""
    written = Written(is_slow=True)
    written.take(*(first(number) for number in range(MOST_SHOWN + 3)))
    written.notices.end(Limits(unlisted=17))
    assert written.shown[-1] == "dnstrail: refused 3 more, which are not shown one by one\n"
    assert json.loads(written.lines[-1]) == {"left_out": 17 + MOST_SHOWN + 3}
