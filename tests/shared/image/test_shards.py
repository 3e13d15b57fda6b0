"""The table of names in parts, and the counters."""

from __future__ import annotations

from dnstrail.image import Image
from dnstrail.image.counts import Counts
from dnstrail.image.shards import MASK, Shards


def test_names_are_found_in_theirparts() -> None:
    """A name is found whatever its part, and all names are counted and listed."""
    shards: Shards[int] = Shards()
    names = [f"n{number}.example" for number in range(1000)]
    for number, name in enumerate(names):
        shards.parts[hash(name) & MASK][name] = number
    assert [shards[name] for name in names] == [shards.get(name) for name in names] == [*range(1000)]
    assert (len(shards), sorted(shards), shards.get("m"), "n1.example" in shards, "m" in shards) == (
        1000,
        sorted(names),
        None,
        True,
        False,
    )


def test_no_part_is_large() -> None:
    """Each part has a small share of the names: no step of its growth is long."""
    shards: Shards[int] = Shards()
    for number in range(64_000):
        shards.parts[hash(f"n{number}") & MASK][f"n{number}"] = number
    assert max(map(len, shards.parts)) < 2000


def test_a_counter_that_counted_nothing_is_zero() -> None:
    """A counter is 0 before it counts, and reading it adds none."""
    counts = Counts()
    counts["a"] += 1
    assert (counts["a"], counts["b"], counts) == (1, 0, {"a": 1})
    assert Image().counters["messages"] == 0
