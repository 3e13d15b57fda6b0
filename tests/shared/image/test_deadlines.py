"""The queue of deadlines that may still move."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dnstrail.image.deadlines import Deadlines


class Times(dict[str, float]):
    """Due times by item, which a test may change; an item without a due time is gone."""

    def due(self, name: str) -> tuple[float] | None:
        """Return the due time of an item."""
        return (self[name],) if name in self else None

    def queue(self) -> Deadlines[str]:
        """Return a queue of all items."""
        deadlines = Deadlines(self.due)
        for name in self:
            deadlines.add(name)
        return deadlines


def popped(deadlines: Deadlines[str], now: float) -> list[str]:
    """Return all items that are due, in their order."""
    return [*iter(lambda: deadlines.pop(now), None)]


def test_items_are_popped_by_due_time() -> None:
    """Items are popped by due time, at that time and not before, and once."""
    deadlines = Times(a=3.0, b=1.0, c=2.0).queue()
    assert popped(deadlines, 0.999) == []
    assert popped(deadlines, 2.0) == ["b", "c"]
    assert popped(deadlines, 2.999) == []
    assert popped(deadlines, 3.0) == ["a"]
    assert (popped(deadlines, 99.0), len(deadlines)) == ([], 0)


def test_ties_keep_the_order_of_addition() -> None:
    """Items with the same due time are popped in the order in which they were added."""
    deadlines: Deadlines[complex] = Deadlines(lambda _: (1.0,))
    for item in (2j, 1j, 3j):
        deadlines.add(item)
    assert [deadlines.pop(1.0) for _ in range(4)] == [2j, 1j, 3j, None]


def test_a_due_time_may_move_on() -> None:
    """An item whose due time moved on waits for its new time; the others do not."""
    times = Times(a=1.0, b=2.0)
    deadlines = times.queue()
    times["a"] = 5.0
    assert popped(deadlines, 4.0) == ["b"]
    assert popped(deadlines, 5.0) == ["a"]


def test_a_gone_item_is_never_popped() -> None:
    """An item that is gone is never popped, whether it was gone when it was added or later."""
    times = Times(a=1.0, b=2.0)
    deadlines = times.queue()
    del times["a"]
    deadlines.add("a")
    assert (popped(deadlines, 9.0), len(deadlines)) == (["b"], 0)


def test_gone_items_take_bounded_room() -> None:
    """Gone items take bounded room, however far their due times lie ahead."""
    times = Times()
    deadlines = times.queue()
    for number in range(20_000):
        times[f"{number}"] = 1e9
        deadlines.add(f"{number}")
        times.pop(f"{number - 10}", None)
        assert len(deadlines) <= 1024 + 3 * 11
    assert sorted(popped(deadlines, 1e9)) == sorted(times)


def test_other_items_survive_the_compaction() -> None:
    """Dropping the gone items, few or many, neither loses nor reorders the others."""
    times = Times()
    deadlines = times.queue()
    for number in range(5000):
        times[f"{number}"] = float(5000 - number)
        deadlines.add(f"{number}")
    assert popped(deadlines, 5000.0) == [f"{number}" for number in reversed(range(5000))]


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "later", "gone", "pop"]), st.integers(0, 3), st.integers(0, 5))
)


@given(OPERATIONS)
def test_exactly_the_due_items_are_popped(operations: list[tuple[str, int, int]]) -> None:
    """After any changes, exactly the items that are present and due are popped."""
    times = Times()
    deadlines = times.queue()
    now = 0.0
    for serial, (operation, which, seconds) in enumerate(operations):
        name = [*times][which] if which < len(times) else ""
        match operation:
            case "add":
                times[f"{serial}"] = now + seconds
                deadlines.add(f"{serial}")
            case "later" if name:
                times[name] += seconds
            case "gone" if name:
                del times[name]
            case "pop":
                now += seconds
                due = sorted(name for name, time in times.items() if time <= now)
                assert sorted(popped(deadlines, now)) == due
                for name in due:
                    del times[name]
