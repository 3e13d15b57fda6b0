"""A new relation is due at once, and a known one after 15 minutes; totals are those of the day."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.fleet import NOON, SECOND, TODAY, answer, use
from dnstrail_fleet.row import DAY, GRACE, MOST_BYTES, MOST_ROWS, FleetEntry, encode_entry
from dnstrail_fleet.sender import totals as module
from dnstrail_fleet.sender.totals import AGAIN, RelationTotals, RowKey, RowTotals, by_asker

SHOP = ("shop.example", 1, "203.0.113.7")
CHAIN = (("www.example", 5, "cdn.example"), ("cdn.example", 1, "203.0.113.8"))


def add(totals: RelationTotals, *relations: tuple[str, int, str], at: int = NOON, doubted: bool = False) -> None:
    """Add an answer at a time in seconds."""
    totals.add(answer(*relations, ended=at * SECOND, doubted=doubted))


def test_a_new_relation_is_due_at_once_and_again_after_a_quarter_of_an_hour() -> None:
    """A relation that was sent waits for 15 minutes, however often it is answered meanwhile."""
    totals = RelationTotals()
    add(totals, SHOP)
    [sent] = totals.due(NOON)
    assert not sent.row.known
    totals.note_sent([sent], NOON)
    for second in range(1, 10):
        add(totals, SHOP, at=NOON + second)
    assert totals.due(NOON + AGAIN - 1) == []
    assert [(one.count, one.row.known) for one in totals.due(NOON + AGAIN)] == [(10, True)]


def questions_due(totals: RelationTotals, at: int) -> set[str]:
    """Return the questions of the rows of an entry that is sent at a time in seconds."""
    if rows := totals.due(at):
        totals.note_sent(rows, at)
    return {row.key.question for row in rows}


@pytest.fixture
def known() -> RelationTotals:
    """Return totals with two rows that were sent, one second after the other, and changed since."""
    totals = RelationTotals()
    for at, relations in ((NOON, [SHOP]), (NOON + 1, CHAIN[:1])):
        add(totals, *relations, at=at)
        totals.note_sent(totals.due(at), at)
        add(totals, *relations, at=at)
    return totals


def test_rows_that_were_sent_before_wait_for_each_other(known: RelationTotals) -> None:
    """An entry without a new relation follows the last one after five seconds."""
    at = NOON + AGAIN
    found = [questions_due(known, at + second) for second in range(7)]
    assert found == [{"shop.example"}, set(), set(), set(), set(), {"www.example"}, set()]


def test_a_clock_that_is_set_back_delays_no_rows(known: RelationTotals) -> None:
    """Rows do not wait for the time of an entry that is in the future."""
    at = NOON + AGAIN + 10
    known.note_sent([], at + 3600)
    assert questions_due(known, at) == {"shop.example", "www.example"}


def days_due(totals: RelationTotals, at: int) -> list[int]:
    """Return the days of the rows of an entry that is sent at a time in seconds, from today on."""
    rows = totals.due(at)
    totals.note_sent(rows, at)
    return [row.day - TODAY for row in rows]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_was_sent_while_the_clock_was_ahead_is_sent_again(is_restarted: bool) -> None:
    """After the clock is set right, a relation waits for 15 minutes, on the days after as well; this is stored."""
    totals = RelationTotals()
    add(totals, SHOP, at=NOON + 365 * DAY)
    assert days_due(totals, NOON + 365 * DAY) == [365]
    if is_restarted:
        totals = RelationTotals(totals.changed)
    totals.note_stored()
    add(totals, SHOP)
    assert days_due(totals, NOON) == []
    assert {row.day - TODAY: row.sent for row in totals.changed} == {0: NOON, 365: NOON}
    assert days_due(totals, NOON + int(AGAIN)) == [0]
    add(totals, SHOP, at=NOON + DAY)
    assert days_due(totals, NOON + DAY) == [1]
    assert totals.waiting == 0


def test_a_row_that_waits_for_a_time_ahead_is_due_after_the_clock_is_set_right() -> None:
    """A row that waited while the clock was ahead has one turn, 15 minutes later, and no other one."""
    totals = RelationTotals()
    add(totals, SHOP)
    assert days_due(totals, NOON + 3600) == [0]
    add(totals, SHOP)
    assert days_due(totals, NOON) == []
    assert totals.waiting == 1
    assert days_due(totals, NOON + int(AGAIN)) == [0]
    assert (totals.waiting, totals._queue) == (0, [])


def test_small_steps_of_the_clock_move_no_rows(known: RelationTotals) -> None:
    """Steps of less than a second together cost nothing, and a row waits for its time; then they are one step."""
    add(known, CHAIN[1], at=NOON + 1)
    assert questions_due(known, NOON + 2) == {"cdn.example"}
    known.note_stored()
    for back in (0.4, 0.8, 0.0, 0.9):
        assert known.due(NOON + 2 - back) == []
    assert not known.changed
    assert known.due(NOON + 0.9) == []
    assert {row.key.question for row in known.changed} == {"cdn.example", "www.example"}


def test_a_new_relation_takes_others_along(known: RelationTotals) -> None:
    """An entry with a new relation is due at once, with all other rows that are due."""
    at = NOON + int(AGAIN)
    assert questions_due(known, at) == {"shop.example"}
    add(known, CHAIN[1], at=at)
    assert questions_due(known, at + 1) == {"cdn.example", "www.example"}


def test_what_a_full_entry_leaves_is_due_at_once(known: RelationTotals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows for which an entry has no place do not wait."""
    monkeypatch.setattr(module, "MOST_ROWS", 1)
    at = NOON + AGAIN + 10
    assert [questions_due(known, at) for _ in range(3)] == [{"shop.example"}, {"www.example"}, set()]


def test_a_new_day_of_a_known_relation_waits_too() -> None:
    """The next day of a known relation has totals of its own, and is due 15 minutes after the relation was sent."""
    totals = RelationTotals()
    midnight = (TODAY + 1) * DAY
    add(totals, SHOP, at=midnight - 10)
    totals.note_sent(totals.due(midnight - 10), midnight - 10)
    add(totals, SHOP, at=midnight + 10)
    assert totals.due(midnight + 10) == []
    due = totals.due(midnight + AGAIN)
    assert [(one.day, one.count, one.row.known) for one in due] == [(TODAY + 1, 1, True)]


def test_a_row_that_was_not_sent_stays_due() -> None:
    """Rows that are put back are due again, once each."""
    totals = RelationTotals()
    add(totals, *CHAIN)
    rows = totals.due(NOON)
    totals.put_back(rows)
    assert {*totals.due(NOON)} == {*rows}
    assert totals.due(NOON) == []


def test_rows_state_their_question_and_asker() -> None:
    """Rows are grouped by asker; an owner that is the question is not repeated."""
    totals = RelationTotals()
    add(totals, *CHAIN, doubted=True)
    [asker] = by_asker(totals.due(NOON))
    assert asker.program == "/usr/bin/curl"
    assert sorted((row.question, row.owner, row.target, row.doubted) for row in asker.rows) == [
        ("www.example", "", "cdn.example", 1),
        ("www.example", "cdn.example", "203.0.113.8", 1),
    ]


_answers = st.lists(st.tuples(st.integers(0, 400), st.integers(1, 50)), min_size=1, max_size=20)


def totals_of(answers: list[tuple[int, int]]) -> RowTotals:
    """Return the totals of answers, each with its time and its life in seconds."""
    row = RowTotals(RowKey("", "", "", "a", "a", 1, "b"), TODAY, answers[0][0])
    for at, life in answers:
        row.add(at, at + life, doubted=False)
    return row


@given(_answers)
def test_totals_are_those_of_all_answers(answers: list[tuple[int, int]]) -> None:
    """First, last, end, count and gaps are those of a day; a gap is a minute or more after all ends before."""
    row, times = totals_of(sorted(answers)), [at for at, _ in answers]
    ends = [at + life for at, life in sorted(answers)]
    gaps = sum(at >= max(ends[:place]) + GRACE for place, at in enumerate(sorted(times)) if place)
    assert (row.first, row.last, row.end, row.count, row.gaps) == (
        min(times),
        max(times),
        max(ends),
        len(answers),
        gaps,
    )


@given(_answers)
def test_without_gaps_the_relation_was_live_all_the_time(answers: list[tuple[int, int]]) -> None:
    """In whatever order answers arrive: with a second between them that none covers, there is a gap."""
    row = totals_of(answers)
    covered = {second for at, life in answers for second in range(at, at + life + GRACE - 1)}
    assert row.gaps or covered >= {*range(row.first, row.last)}


def connect(totals: RelationTotals, name: str, address: str, at: int) -> None:
    """Add a connection of the program that was answered."""
    totals.add_use(*use(name, address, at))


def sent(totals: RelationTotals, at: int) -> list[tuple[str, int, bool]]:
    """Send what is due: return the target, the connection and whether one was sent before, of each row."""
    due = totals.due(at)
    rows = [(one.row.target, one.row.used - NOON if one.row.used else 0, one.row.reused) for one in due]
    totals.note_sent(due, at)
    return rows


def test_the_first_connection_of_a_relation_is_due_at_once() -> None:
    """The address of the name has it, and no other row; later ones wait for 15 minutes."""
    totals = RelationTotals()
    add(totals, *CHAIN)
    add(totals, SHOP)
    assert len(sent(totals, NOON)) == 3
    add(totals, *CHAIN, at=NOON + 1)
    connect(totals, "www.example", "203.0.113.8", NOON + 2)
    assert sent(totals, NOON + 3) == [("203.0.113.8", 2, False)]
    connect(totals, "www.example", "203.0.113.8", NOON + 4)
    connect(totals, "www.example", "203.0.113.8", NOON + 1)  # another stage of an earlier one
    assert sent(totals, NOON + 5) == []
    assert sorted(sent(totals, NOON + AGAIN + 4)) == [("203.0.113.8", 4, True), ("cdn.example", 0, False)]
    assert totals.waiting == 0
    assert sent(totals, NOON + 9 * AGAIN) == []


def test_a_row_that_is_sent_early_waits_once() -> None:
    """A row that goes earlier than it was to, in the second of its last entry, is not sent twice later."""
    totals = RelationTotals()
    add(totals, SHOP)
    sent(totals, NOON)
    add(totals, SHOP)
    connect(totals, *SHOP[::2], NOON)
    assert totals.waiting == 1
    assert len(sent(totals, NOON)) == 1
    connect(totals, *SHOP[::2], NOON + 1)
    assert len(sent(totals, NOON + AGAIN)) == 1
    assert totals.waiting == 0


def test_a_connection_of_another_day_belongs_to_the_answer_before() -> None:
    """A used relation waits for 15 minutes on its next day, whose first connection is one of that day."""
    totals, midnight = RelationTotals(), (TODAY + 1) * DAY
    add(totals, SHOP, at=midnight - 20)
    connect(totals, *SHOP[::2], midnight - 10)
    assert sent(totals, midnight) == [(SHOP[2], midnight - 10 - NOON, False)]
    add(totals, SHOP, at=midnight + 20)
    connect(totals, *SHOP[::2], midnight + 10)
    connect(totals, *SHOP[::2], midnight + 30)
    assert sent(totals, midnight + 31) == []
    days = [(one.day, one.used - midnight, one.row.reused) for one in totals.due(midnight + AGAIN)]
    assert sorted(days) == [(TODAY, 10, True), (TODAY + 1, 30, False)]


@pytest.mark.parametrize("late", [0, DAY // 2])
def test_a_connection_after_the_clock_was_ahead_belongs_to_the_answer_before(late: int) -> None:
    """Answers of a day that is ahead take no connection from those of the right day, or of the day before."""
    totals = RelationTotals()
    add(totals, SHOP, at=NOON + 365 * DAY)
    add(totals, SHOP, at=NOON)
    connect(totals, *SHOP[::2], NOON + late)
    assert [(one.day, one.used) for one in totals.due(NOON + late + AGAIN)] == [(TODAY, NOON + late)]


def test_a_connection_without_its_answer_is_left_out() -> None:
    """Another program, name or address, and a connection before all answers, belong to no row."""
    totals = RelationTotals()
    add(totals, SHOP)
    sent(totals, NOON)
    connect(totals, "shop.example", "203.0.113.9", NOON)
    connect(totals, "other.example", "203.0.113.7", NOON)
    connect(totals, *SHOP[::2], NOON - 1)
    one = use(*SHOP[::2])
    totals.add_use(one.opened, msgspec.structs.replace(one.content, program="/usr/bin/wget"))
    assert sent(totals, NOON + AGAIN) == []


def test_connections_of_forgotten_rows_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was forgotten has no connections until it is answered again; its next one is its first."""
    monkeypatch.setattr(module, "MOST_KNOWN", 8)
    totals = RelationTotals()
    for number in range(9):
        add(totals, (f"n{number}.example", 1, "203.0.113.7"), at=NOON + number)
        connect(totals, f"n{number}.example", "203.0.113.7", NOON + number)
        sent(totals, NOON + number)
    assert (len(totals._leading), len(totals._used)) == (8, 8)
    connect(totals, "n0.example", "203.0.113.7", NOON + 10)
    assert sent(totals, NOON + AGAIN) == []


def test_an_entry_is_bounded_and_a_text_too() -> None:
    """The rows beyond the bound of an entry are left to the next one; a relation with a longer text is left out."""
    totals = RelationTotals()
    for number in range(MOST_ROWS + 1):
        add(totals, (f"n{number}.example", 1, "203.0.113.7"))
    add(totals, ("x" * 1025, 1, "203.0.113.7"))
    assert (len(totals.due(NOON)), len(totals.due(NOON)), totals.left_out) == (MOST_ROWS, 1, 1)
    for number in range(600):
        add(totals, (f"{number}." + "x" * 1000, 1, "203.0.113.7"))
    assert len(totals.due(NOON)) < 600


def test_a_row_ahead_of_the_clock_waits() -> None:
    """After the clock was set back, a row of the time before waits, and the others are due."""
    totals = RelationTotals()
    add(totals, SHOP, at=NOON + 3600)
    add(totals, *CHAIN)
    assert {one.key.question for one in totals.due(NOON)} == {"www.example"}
    assert [one.key.question for one in totals.due(NOON + 3600 + AGAIN)] == ["shop.example"]


def test_an_entry_is_bounded_in_bytes_whatever_its_letters() -> None:
    """Texts with long letters count by their bytes."""
    totals = RelationTotals()
    for number in range(600):
        add(totals, (f"{number}." + "\U0001f600" * 1000, 1, "203.0.113.7"))
    entry = FleetEntry(1, "web1", NOON * 1000, askers=by_asker(totals.due(NOON)))
    assert MOST_BYTES // 4 < len(encode_entry(entry)) < MOST_BYTES


def test_rows_that_were_sent_earliest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound, the rows that were sent earliest are forgotten; they come again as new, after a gap."""
    monkeypatch.setattr(module, "MOST_KNOWN", 8)
    totals = RelationTotals()
    for number in range(9):
        add(totals, (f"n{number}.example", 1, "203.0.113.7"), at=NOON + number)
        totals.note_sent(totals.due(NOON + number), NOON + number)
    assert [one.key.question for one in totals.gone] == ["n0.example"]
    add(totals, ("n0.example", 1, "203.0.113.7"), at=NOON + 10)
    assert [(one.count, one.gaps) for one in totals.due(NOON + 10)] == [(1, 1)]
    assert totals.forgotten == 1


def test_rows_of_earlier_days_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of yesterday that was sent last goes before the rows of today, which would begin again at 1."""
    monkeypatch.setattr(module, "MOST_KNOWN", 8)
    totals = RelationTotals()
    for number in range(9):
        day = DAY if number == 8 else 0
        add(totals, (f"n{number}.example", 1, "203.0.113.7"), at=NOON - day)
        totals.note_sent(totals.due(NOON + number), NOON + number)
    assert ([one.key.question for one in totals.gone], totals.forgotten) == (["n8.example"], 0)
