"""A queue by due times that may still move."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dnstrail.image.deadlines import Deadlines


class Times(dict[str, float]):
    """Due times of items by name, which a test may change; what is not there is gone."""

    def due(self, name: str) -> tuple[float] | None:
        """The time of an item."""
        return (self[name],) if name in self else None

    def queue(self) -> Deadlines[str]:
        """A queue that watches all of them."""
        deadlines = Deadlines(self.due)
        for name in self:
            deadlines.add(name)
        return deadlines


def popped(deadlines: Deadlines[str], now: float) -> list[str]:
    """All that is due, in its order."""
    return [*iter(lambda: deadlines.pop(now), None)]


def test_what_is_due_comes_in_the_order_of_its_time() -> None:
    """Items come out by due time, at it and not before it, and once."""
    deadlines = Times(a=3.0, b=1.0, c=2.0).queue()
    assert popped(deadlines, 0.999) == []
    assert popped(deadlines, 2.0) == ["b", "c"]
    assert popped(deadlines, 2.999) == []
    assert popped(deadlines, 3.0) == ["a"]
    assert (popped(deadlines, 99.0), len(deadlines)) == ([], 0)


def test_ties_come_in_the_order_in_which_they_were_added() -> None:
    """Items of one due time come out first in, first out, though they cannot be compared."""
    deadlines: Deadlines[complex] = Deadlines(lambda _: (1.0,))
    for item in (2j, 1j, 3j):
        deadlines.add(item)
    assert [deadlines.pop(1.0) for _ in range(4)] == [2j, 1j, 3j, None]


def test_a_time_that_moved_later_is_believed() -> None:
    """An item whose time has moved on waits for its new time, and the others do not."""
    times = Times(a=1.0, b=2.0)
    deadlines = times.queue()
    times["a"] = 5.0
    assert popped(deadlines, 4.0) == ["b"]
    assert popped(deadlines, 5.0) == ["a"]


def test_what_is_gone_never_comes() -> None:
    """An item that is gone by its time is dropped, and one that was gone at first is not watched."""
    times = Times(a=1.0, b=2.0)
    deadlines = times.queue()
    del times["a"]
    deadlines.add("a")
    assert (popped(deadlines, 9.0), len(deadlines)) == (["b"], 0)


def test_items_that_went_early_are_not_held_until_their_time() -> None:
    """However far the due times lie ahead, what is gone takes no more room than a bound."""
    times = Times()
    deadlines = times.queue()
    for number in range(20_000):
        times[f"{number}"] = 1e9
        deadlines.add(f"{number}")
        times.pop(f"{number - 10}", None)
        assert len(deadlines) <= 1024 + 3 * 11
    assert sorted(popped(deadlines, 1e9)) == sorted(times)


def test_what_is_still_watched_survives_the_tidying() -> None:
    """Nothing that is still due is lost or changes its order when the gone are dropped, many or few."""
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
def test_nothing_due_is_kept_back_and_nothing_else_comes(operations: list[tuple[str, int, int]]) -> None:
    """After any changes, what comes out by a time is exactly what is watched and due by then."""
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
