"""A and AAAA of one call are one line of the table; other entries keep their lines and their order."""

from __future__ import annotations

import pytest

from builders.facts import BEGIN, SECOND, fact_of
from builders.log_entries import live
from dnstrail.captured import Process
from dnstrail.history.log.entries import LoggedQuestion
from dnstrail_cli.log_formats import pairs as module
from dnstrail_cli.log_formats.pairs import TOGETHER, PairedQuestions

A, AAAA, MX = 1, 28, 15
ANSWERED, NO_DATA, NXDOMAIN, UNANSWERED = 0, 1, 2, 6
FOUR, SIX = (("a.example", A, "192.0.2.1", 60),), (("a.example", AAAA, "2001:db8::1", 60),)


def question(rdtype: int = A, at: int = BEGIN, **values) -> LoggedQuestion:
    relations = {A: FOUR, AAAA: SIX}.get(rdtype, ()) if values.get("outcome", ANSWERED) == ANSWERED else ()
    return live(fact_of(ended=at, name="a.example", type=rdtype, **{"relations": relations, **values}))


def printed(*entries: LoggedQuestion) -> list[tuple]:
    """Return type, outcome, targets and duration of each line."""
    pairs, shown = PairedQuestions(), []
    for entry in entries:
        pairs.add(entry)
        shown += pairs.ready(entry.timestamp)
    shown += pairs.ready(1 << 62)
    return [(one.type, one.outcome, [target for _, _, target, _ in one.relations], one.waited) for one in shown]


@pytest.mark.parametrize("first", [A, AAAA])
def test_two_answers_are_one_line(first):
    """Both answers of a call, whichever comes first, are one line: addresses of both, and the longer wait."""
    second = A + AAAA - first
    found = printed(question(first, waited=5), question(second, BEGIN + SECOND, waited=SECOND))
    assert found == [("A, AAAA", "answered", ["192.0.2.1", "2001:db8::1"], SECOND)]


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        (ANSWERED, NO_DATA, "answered"),
        (NO_DATA, ANSWERED, "answered"),
        (NXDOMAIN, NXDOMAIN, "nxdomain"),
        (UNANSWERED, UNANSWERED, "unanswered"),
    ],
)
def test_outcomes_of_one_line(first, second, line):
    """Two outcomes that agree are one line; no data for one type is none for a name with addresses of the other."""
    [(kinds, outcome, _, _)] = printed(question(A, outcome=first), question(AAAA, outcome=second))
    assert (kinds, outcome) == ("A, AAAA", line)


@pytest.mark.parametrize(
    "second",
    [
        {"rdtype": A},
        {"rdtype": MX},
        {"outcome": NXDOMAIN},
        {"outcome": UNANSWERED},
        {"at": BEGIN + TOGETHER + 1, "waited": TOGETHER},
        {"at": BEGIN + TOGETHER, "waited": 0},
        {"process": Process(8)},
        {"hop": 2},
    ],
    ids=str,
)
def test_others_keep_their_lines(second):
    """Another type, outcome, time, process or hop is no part of the call."""
    found = printed(question(A, waited=1), question(**{"rdtype": AAAA, **second}))
    (kind, *_), _ = found
    assert kind == "A"


def test_lines_keep_their_order():
    """An entry waits behind one that may still be joined, until this is complete or a second has passed."""
    pairs = PairedQuestions()
    for entry in (question(A, BEGIN), question(MX, BEGIN + 5)):
        pairs.add(entry)
        assert [*pairs.ready(BEGIN + TOGETHER - 1)] == []
    assert [entry.type for entry in pairs.ready(BEGIN + TOGETHER)] == ["A", "MX"]
    pairs.add(question(AAAA, BEGIN + 6))
    assert [entry.type for entry in pairs.ready(BEGIN + TOGETHER + 6)] == ["AAAA"]


def test_what_waits_is_bounded(monkeypatch):
    """Beyond a bound of entries of one second the oldest is printed."""
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    pairs = PairedQuestions()
    for number in range(5):
        pairs.add(live(fact_of(number, name=f"n{number}.example", relations=())))
    assert [entry.name for entry in pairs.ready(BEGIN)] == ["n0.example", "n1.example"]


def test_a_clock_that_is_set_back_holds_nothing_up():
    """An entry that waits when the clock is set back by an hour, or comes from a host ahead, does not wait so long."""
    pairs = PairedQuestions()
    ahead, after = question(A, BEGIN + 3600 * SECOND), question(MX, BEGIN)
    pairs.add(ahead)
    pairs.add(after)
    assert [*pairs.ready(BEGIN)] == [ahead, after]
