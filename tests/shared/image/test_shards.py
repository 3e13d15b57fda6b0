"""The table of names in parts, and the counters."""

from __future__ import annotations

from builders.dns_builders import response_to, t
from dnstrail.dns.tables import PARTS, Shards
from dnstrail.image import Bounds, Image
from dnstrail.image.bounds import Counts


def test_names_are_found_in_their_parts() -> None:
    """A name is found whatever its part, and all names are counted and listed."""
    shards: Shards[int] = Shards()
    names = [f"n{number}.example" for number in range(1000)]
    for number, name in enumerate(names):
        shards.parts[hash(name) % PARTS][name] = number
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
        shards.parts[hash(f"n{number}") % PARTS][f"n{number}"] = number
    assert max(map(len, shards.parts)) < 500


def test_no_table_of_an_image_grows_in_a_long_step() -> None:
    """The roots of an image and its indexes are in parts, and each part has a small share of them."""
    image = Image(Bounds(size=2000), "accept")
    for number in range(2000):
        name = f"n{number}.example"
        image.feed(t(number / 1000), response_to(name, f"{name} A 198.18.{number // 250}.{number % 250}"))
    for table in (image.store.places.roots, image.store.graph.out, image.store.graph.into):
        assert (len(table), max(map(len, table.parts)) < 100) == (2000, True)


def test_a_counter_that_counted_nothing_is_zero() -> None:
    """A counter is 0 before it counts, and reading it adds none."""
    counts = Counts()
    counts["a"] += 1
    assert (counts["a"], counts["b"], counts) == (1, 0, {"a": 1})
    assert Image().counters["messages"] == 0


def test_the_names_of_a_part_begin_their_search_at_many_slots():
    """A dict begins at the slot that the low bits of a hash select: few of the names of a part share it."""
    parts: list[set[int]] = [set() for _ in range(PARTS)]
    for number in range(100 * PARTS):
        found = hash(f"n{number}.example")
        parts[found % PARTS].add(found & 127)
    assert min(map(len, parts)) > 30  # 100 names would select 69 of 128 slots by chance, and 1 if a part were low bits
