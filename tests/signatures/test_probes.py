"""Coverage: the part of a probe's events of the last ten seconds that arrived, as signatures read it."""

from __future__ import annotations

import pytest

from dnstrail.protocol.batches import Turn
from dnstrail_signatures.probes import WINDOW, ProbeCoverage, StreamTimes

SECOND = 1_000_000_000


class FedCoverage:
    """A coverage that is fed by short words; the clock of each probe begins at 1000 s."""

    def __init__(self, said: str = "") -> None:
        self.coverage = ProbeCoverage()
        self._now: dict[str, int] = {}
        self._turn: dict[str, int] = {}
        self._published: dict[str, int] = {}
        self._others: dict[str, int] = {}
        self._missed: dict[str, int] = {}
        self._lost: dict[str, dict[str, int]] = {}
        self.say(said)

    def say(self, said: str, start: str = "s") -> FedCoverage:
        """Feed events.

        "5": five arrive. "-3": three are lost on the way. "o40": forty belong to other topics. "k2": two are lost in
        the kernel. "p2": two are lost in the probe. "+9.5": time passes. "<9": the clock is set back. "|": a turn ends.
        """
        for word in said.split():
            self._one(word, start)
        return self

    def _one(self, word: str, start: str) -> None:
        what, number = word[0], float(word.lstrip("-+<okp|") or 0)
        count = int(number)
        lost = self._lost.setdefault(start, {})
        if what.isdigit() or what == "-":
            self._published[start] = self._published.get(start, 0) + count
            if what == "-":
                self._missed[start] = self._missed.get(start, 0) + count
            else:
                self.coverage.batch(start, count, self._missed.get(start, 0))
        elif what == "o":
            self._others[start] = self._others.get(start, 0) + count
        elif what in "kp":
            hop = lost.setdefault("kernel" if what == "k" else "probe", {"reason": 0})
            hop["reason"] += count
        elif what in "+<":
            passed = int(number * SECOND) * (1 if what == "+" else -1)
            self._now[start] = self._now.get(start, 1000 * SECOND) + passed
        else:
            self._end_turn(start)

    def _end_turn(self, start: str) -> None:
        turn = self._turn[start] = self._turn.get(start, -1) + 1
        published = {"dns": self._published.get(start, 0), "other": self._others.get(start, 0)}
        lost = {hop: dict(reasons) for hop, reasons in self._lost.get(start, {}).items()}
        now = self._now.get(start, 1000 * SECOND)
        end = Turn(start, turn, {}, live=True, now=now, published=published, lost=lost)
        self.coverage.turn(end, self._missed.get(start, 0))


CASES = {
    "no message": ("", None),
    "events before the first turn": ("5", None),
    "a turn without events": ("|", 1.0),
    "nothing lost": ("| 5 | 7 |", 1.0),
    "nothing lost, in an open turn": ("| 5", 1.0),
    "loss in the kernel": ("| 9 k1 |", 9 / 10),
    "loss in the kernel counts when its turn ends": ("| 9 k1", 1.0),
    "loss in the probe": ("| 3 p1 |", 3 / 4),
    "loss on the way": ("| 6 -2 |", 6 / 8),
    "loss on the way counts with the next batch": ("| 6 -2 2", 8 / 10),
    "loss on the way does not count before the next message": ("| 6 -2", 1.0),
    "loss at every hop": ("| 5 -3 k1 p1 |", 5 / 10),
    "everything lost in the kernel": ("| k8 |", 0.0),
    "everything lost on the way": ("| -8 |", 0.0),
    "losses add up over turns": ("| 5 k1 | 5 k1 | 8 -2 |", 18 / 22),
    "losses of turns and of the open one": ("| 5 k1 | 4 k9", 9 / 10),
    "losses before the worker joined do not count": ("k100 p100 o50 | 5 |", 1.0),
    "a worker joins within a turn": ("k100 5 | 5 |", 1.0),
    "a worker joins, and a loss follows": ("k100 | 3 k1 |", 3 / 4),
    "losses of unknown topics are shared": ("| 10 o990 k1000 |", 1 / 2),
    "a flood of another topic costs few events little": ("| 1 o9999 k100 |", 10000 / 10100),
    "one of few events is lost on the way": ("| 1 -1 o98 |", 1 / 2),
    "loss nine seconds ago": ("| 5 k5 | +9 5 |", 10 / 15),
    "loss at the edge of the window, within": ("| 5 k5 | +9.8 | 5 |", 10 / 15),
    "loss at the edge of the window, outside": ("| 5 k5 | +10 | 5 |", 1.0),
    "loss long ago": ("| 5 k5 | +3600 5 |", 1.0),
    "the oldest loss goes first": ("| 5 k5 | +6 5 k1 | +6 5 |", 10 / 11),
    "a quiet time after a loss": ("| 5 k5 | +3 | +3 | +3 |", 5 / 10),
    "turns of one moment": ("| 1 k1 | +0.005 1 k1 | +0.005 1 k1 | +10 |", 1.0),
    "a clock that is set back keeps the loss": ("| 5 k5 | <100 5 |", 10 / 15),
    "a clock that was set back goes on": ("| 5 k5 | <100 5 | +10 5 |", 1.0),
}


@pytest.mark.parametrize(("said", "coverage"), CASES.values(), ids=CASES)
def test_the_part_that_arrived(said, coverage):
    """Coverage is received / (received + lost) over ten seconds of the probe's clock; None before the first turn."""
    assert FedCoverage(said).coverage.of("s") == (coverage if coverage is None else pytest.approx(coverage))


def test_nothing_lost_is_exactly_one():
    """Without losses the coverage is exactly 1, whatever the numbers are."""
    fed = FedCoverage("|")
    for count in range(1, 200):
        fed.say(f"{count} o{count * 7} +0.07 |")
        assert fed.coverage.of("s") == 1.0


def test_each_probe_has_its_own():
    """The losses of one probe do not change the coverage of another."""
    fed = FedCoverage().say("| 5 k5 |", "a").say("| 5 |", "b").say("5", "c")
    assert [fed.coverage.of(start) for start in "abc"] == [0.5, 1.0, None]


def test_a_restarted_probe_begins_anew():
    """A restarted probe has another start id: its coverage is None until its first turn, and has no earlier losses."""
    fed = FedCoverage().say("| 5 k5 |", "first").say("5", "second")
    assert fed.coverage.of("second") is None
    fed.say("|", "second")
    assert (fed.coverage.of("first"), fed.coverage.of("second")) == (0.5, 1.0)


def test_a_probe_without_totals():
    """A probe that does not count its events is taken to have published what arrived and what was lost on the way."""
    coverage = ProbeCoverage()
    coverage.turn(Turn("s", 0, {}, True, 0), 0)
    coverage.batch("s", 6, 2)
    coverage.turn(Turn("s", 1, {}, True, 0, lost={"kernel": {"ring_full": 4}}), 2)
    assert coverage.of("s") == pytest.approx(6 / 12)


def test_counters_that_decrease_do_not_count():
    """Counters that decrease add no loss, and no sum falls below zero."""
    coverage = ProbeCoverage()
    coverage.turn(Turn("s", 0, {}, True, 0, lost={"kernel": {"ring_full": 9}}, published={"dns": 9}), 5)
    coverage.batch("s", 4, 0)
    coverage.turn(Turn("s", 1, {}, True, 0), 0)
    assert coverage.of("s") == pytest.approx(4 / 9)


def test_memory_is_bounded():
    """A probe is kept with a hundred steps, whatever arrives, until it is forgotten."""
    fed = FedCoverage()
    for start in ("s", "s999"):
        fed.say("| 1 |", start)
    fed.coverage.forget("s")
    assert len(fed.coverage) == 1
    for _ in range(5000):
        fed.say("1 k1 +0.01 |", "s999")
    assert len(fed.coverage._probes["s999"].steps) <= 101
    assert WINDOW == 10 * SECOND


def test_a_late_packet_does_not_turn_the_time_back():
    """The time of an event is the greatest time stamp until then, also of earlier batches of its start."""
    times = StreamTimes()
    assert times.of("s", [5, 3, 7]) == [5, 5, 7]
    assert times.of("s", [6, 9]) == [7, 9]
    assert times.of("another", [1, 2]) == [1, 2]
    assert times.of("s", []) == []


def test_a_start_that_is_forgotten_begins_anew():
    """The times of a start that gave way count no more."""
    times = StreamTimes()
    times.of("s", [9])
    times.forget("s")
    times.forget("s")
    assert times.of("s", [1]) == [1]
