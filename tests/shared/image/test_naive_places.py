"""The naive model of the bounds: places, parties and evictions (docs/reference/bounds.md, The image)."""

from __future__ import annotations

from typing import Any

import pytest

from dnstrail.captured import Process
from model.instants import START, ns
from model.naive import NaiveModel
from model.naive_places import WrongEvictionError
from scenarios.lives import message

PTR = "0 1.1.1.1.in-addr.arpa PTR: 1.1.1.1.in-addr.arpa PTR p"


def fed(steps: str, **bounds: Any) -> NaiveModel:
    """Take steps "KEY?" (a lookup) and "NAME ADDRESSES": the answer of a name, each step a second after the last.

    A digit is the last of an address; "!" behind them stands for a TTL of one second. A digit before the name is the
    cgroup of the asker.
    """
    model = NaiveModel(0, **bounds)
    for second, step in enumerate(steps.split(", ")):
        if step.endswith("?"):
            model.get(step.removesuffix("?"))
            continue
        asker, digits = step.split(" ")
        name, ttl = asker[-1], 1 if step.endswith("!") else 300
        records = "; ".join(f"{name} A 1.1.1.{digit} ttl={ttl}" for digit in digits.removesuffix("!"))
        process = Process(cgroup_id=int(asker[:-1])) if asker[:-1] else None
        model.feed(*message(f"{second} {name}: {records}"), process=process)
    return model


@pytest.mark.parametrize(
    ("steps", "bounds", "roots"),
    [
        pytest.param("a 1, b 1, c 1", {"size": 2}, "b c", id="the least recently used root goes"),
        pytest.param("a 1, b 1, a?, c 1", {"size": 2}, "a c", id="a lookup uses its root"),
        pytest.param("a 1, b 1, z?, c 1", {"size": 2}, "b c", id="a lookup without result uses nothing"),
        pytest.param("a 1, b 1, 1.1.1.1?, c 1", {"size": 2}, "b c", id="a lookup uses its root alone"),
        pytest.param("a 1, b 1, a 2, c 1", {"size": 2}, "a c", id="an answer uses its root"),
        pytest.param("a 1, b 1!, c 1", {"size": 2}, "a c", id="an ended root goes first"),
        pytest.param("a 1, b 12, c 1", {"relations": 3}, "b c", id="relations"),
        pytest.param("a 1, b 12, c 12", {"relations": 3}, "c", id="several roots go for one with many relations"),
        pytest.param("1a 1, 2b 1, 2c 1, 2d 1, 1e 1", {"size": 4}, "a c d e", id="a party with more than half"),
        pytest.param("1a 1, 2b 1, 2c 1, 3d 1, 1e 1", {"size": 4}, "b c d e", id="a party with half"),
        pytest.param("2b 123, 1a 1, 2c 4, 1d 12", {"relations": 6}, "a c d", id="more than half of all relations"),
        pytest.param("1a 1, 2b 1!, 2c 1, 2d 1!, 1e 1", {"size": 4}, "a c d e", id="an ended root of a greedy party"),
        pytest.param("1a 1, 1b 1, 2a 1, 2c 1, 2d 1", {"size": 3}, "a c d", id="a root belongs to its first party"),
        pytest.param("2b 1, 2c 1, 1b 1, 2d 1, 2e 1", {"size": 3}, "b d e", id="a shared root goes last"),
        pytest.param("2b 1, 1b 1, 2c 1, 1c 1, 2d 1", {"size": 2}, "c d", id="of shared roots the oldest"),
    ],
)
def test_roots(steps: str, bounds: dict[str, Any], roots: str) -> None:
    """After a sequence that meets a bound exactly these roots hold a place."""
    model = fed(steps, **bounds)
    assert " ".join(sorted(model.places.by_root)) == roots


def test_a_lookup_by_a_reverse_name() -> None:
    """A lookup by PTR alone uses the PTR answer."""
    model = NaiveModel(size=2)
    model.feed(*message(PTR))
    model.feed(*message("1 b: b A 9.9.9.9"))
    model.get("p")
    model.feed(*message("2 c: c A 9.9.9.9"))
    assert set(model.places.by_root) == {"1.1.1.1", "c"}


def test_an_answer_without_relation() -> None:
    """An answer without a relation holds no place."""
    model = NaiveModel(size=1)
    model.feed(*message("0 a: a A 9.9.9.9"))
    model.feed(*message("1 b: zz A 9.9.9.9"))
    assert set(model.places.by_root) == {"a"}


def test_order_of_eviction() -> None:
    """Ended roots come first, then the least recently used."""
    model = fed("a 1, b 2!, c 3, a?")
    assert model.roots() == ({"b"}, ["c", "a"])


@pytest.mark.parametrize(
    ("steps", "kept", "evicted"),
    [
        pytest.param("a 1234", "123", 0, id="the first of one answer"),
        pytest.param("a 1123", "123", 0, id="a relation that stands twice counts once"),
        pytest.param("a 12, a 34", "34", 2, id="the oldest record goes"),
        pytest.param("a 1, a 23, a 1, a 4", "14", 2, id="a record that was seen again is not the oldest"),
        pytest.param("a 1, a 12, a 3", "123", 1, id="a relation counts in each record"),
        pytest.param("a 12, a 21, a 3", "123", 0, id="another order is the same record"),
        pytest.param("a 12, b 89", "12", 0, id="each root has its own bound"),
    ],
)
def test_relations_of_one_root(steps: str, kept: str, evicted: int) -> None:
    """A root holds at most its bound of relations, summed over its records; the newest records stay."""
    model = fed(steps, owned=3)
    assert "".join(sorted(one[-1] for one in model.get("a")["ip_addresses"])) == kept
    assert model.counters["evicted_owned"] == evicted


@pytest.mark.parametrize(("bound", "value"), [("size", 2), ("relations", 2)])
def test_eviction_is_remembered(bound: str, value: int) -> None:
    """`forgotten` is the latest end of what was evicted, and the bound has a counter."""
    model = fed("a 1, b 1, c 1", **{bound: value})
    assert model.forgotten == START + ns(300)
    assert +model.counters == {"evicted_roots" if bound == "size" else "evicted_relations": 1}
    assert model.get("a", at=START + ns(1)) is not None


def test_an_eviction_that_is_not_right() -> None:
    """The model refuses an eviction of the image that the bounds do not allow."""
    model = fed("a 1, b 1, c 1", size=3)
    with pytest.raises(WrongEvictionError, match=r"\['a'\] goes next"):
        model.feed(*message("3 d: d A 1.1.1.1"), kept={"a", "c", "d"})


def test_either_of_two_ended_roots_may_go() -> None:
    """Among ended roots the image chooses; the model makes the same choice."""
    model = fed("a 1!, b 1!, c 1", size=3)
    model.feed(*message("5 d: d A 1.1.1.1"), kept={"a", "c", "d"})
    assert set(model.places.by_root) == {"a", "c", "d"}
