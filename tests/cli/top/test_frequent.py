"""The most frequent keys of a stream, whatever else is in it."""

from __future__ import annotations

import random

from dnstrail_cli.top.frequent import MOST_KEYS, Frequent


def counted(*names: str) -> Frequent:
    """Return the figures after lookups of names."""
    frequent = Frequent()
    for name in names:
        frequent[(name,)].add(failed=False, waited=None)
    return frequent


def test_a_flood_of_random_names_replaces_no_frequent_one():
    """Of 50,000 names that come once, the table holds MOST_KEYS at most; names that come often stay, whole."""
    stream = [f"x{number}.example" for number in range(50_000)] + ["often.example"] * 500
    random.Random(1).shuffle(stream)
    frequent = counted(*["first.example"] * 200, *stream)
    held = frequent.by("lookups")
    assert len(held) == MOST_KEYS
    assert [figures.key for figures in held[:2]] == [("often.example",), ("first.example",)]
    assert held[1].lookups == 200
    assert frequent.left + sum(figures.lookups for figures in held) == 50_700


def test_a_name_that_becomes_frequent_is_held_beside_full_ranks():
    """After all ranks are high, a new name that comes more often than one in MOST_KEYS stays through a flood."""
    names = [f"known{number}.example" for number in range(MOST_KEYS)]
    flood = [f"x{number}.example" for number in range(MOST_KEYS * 20)]
    late = [
        name for number, one in enumerate(flood) for name in (one, *(["late.example"] if number % 100 == 0 else []))
    ]
    frequent = counted(*names * 50, *late)
    held = {figures.key: figures for figures in frequent.by("lookups")}
    assert held[("late.example",)].lookups == late.count("late.example")


def test_every_key_above_one_in_most_keys_is_held():
    """The promise of Space-Saving holds for a stream of skewed random keys, at its end and at each tenth of it."""
    rng, frequent, counts = random.Random(2), Frequent(), {}
    for number in range(1, 60_001):
        key = (str(int(rng.paretovariate(0.6))),)
        counts[key] = counts.get(key, 0) + 1
        frequent[key].add(failed=False, waited=None)
        if number % 6_000 == 0:
            held = {figures.key: figures for figures in frequent.by("lookups")}
            assert {one for one, times in counts.items() if times > number / MOST_KEYS} <= held.keys()
            assert all(figures.lookups <= counts[one] <= figures.rank for one, figures in held.items())


def test_rates_are_those_since_the_last_tick():
    """A tick states the lookups of a second since the tick before."""
    frequent = counted("a", "a", "b")
    frequent.tick(2.0)
    assert [figures.rate for figures in frequent.by("rate")] == [1.0, 0.5]
    frequent[("b",)].add(failed=True, waited=3)
    frequent.tick(0.5)
    assert [(figures.key, figures.rate) for figures in frequent.by("rate")] == [(("b",), 2.0), (("a",), 0.0)]


def test_times_are_those_of_responses():
    """The mean counts lookups that had a response; the greatest of all sorts first."""
    frequent = Frequent()
    for failed, waited in ((False, 10), (True, 30), (True, None)):
        frequent[("a",)].add(failed=failed, waited=waited)
    frequent[("b",)].add(failed=False, waited=40)
    first, second = frequent.by("slowest")
    assert (first.key, second.lookups, second.failed, second.mean, second.slowest) == (("b",), 3, 2, 20, 30)
