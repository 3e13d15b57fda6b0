"""Families of metrics, and the histograms behind them."""

from __future__ import annotations

import pytest

from dnstrail import __version__
from dnstrail.metrics.families import MOST_SERIES, OTHER, build_info, counters, gauges, histograms, one_of
from dnstrail.metrics.histogram import Histogram


def samples(family):
    return {(one.name, *one.labels.values()): one.value for one in family.samples}


def test_a_histogram_counts_up_to_each_bound():
    """A value at a bound belongs to its bucket, and each bucket contains all smaller values."""
    times = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        times.observe(value)
    found = samples(histograms("dnstrail_x_seconds", "X.", ["op"], [(("get",), times)]))
    buckets = {name: value for name, value in found.items() if "bucket" in name[0]}
    assert list(buckets.values()) == [2, 3, 4]
    assert found["dnstrail_x_seconds_count", "get"] == 4
    assert found["dnstrail_x_seconds_sum", "get"] == pytest.approx(7.65)


def test_histograms_are_added():
    """The sum of two histograms contains the values of both."""
    one, other = Histogram((1.0,)), Histogram((1.0,))
    one.observe(0.5)
    other.observe(2.0)
    one.add(other)
    assert (one.counts, one.total, one.count) == ([1, 1], 2.5, 2)


def test_a_gauge_has_a_value_for_each_label():
    """Each label has its own value."""
    assert samples(gauges("dnstrail_x", "X.", "label", {"a": 1, "b": 0})) == {
        ("dnstrail_x", "a"): 1,
        ("dnstrail_x", "b"): 0,
    }


def test_the_series_of_a_family_are_bounded():
    """Beyond 128 labels the later counters are added up, so that no sender of labels can fill a memory."""
    values = {f"label {number}": 1 for number in range(MOST_SERIES + 5)}
    found = samples(counters("dnstrail_x", "X.", "label", values))
    assert len(found) == MOST_SERIES + 1
    assert found["dnstrail_x_total", OTHER] == 5
    assert sum(found.values()) == MOST_SERIES + 5


def test_one_state_is_present():
    """Exactly the present state is 1."""
    found = samples(one_of("dnstrail_status", "X.", "status", ("ok", "silent"), "silent"))
    assert found == {("dnstrail_status", "ok"): 0, ("dnstrail_status", "silent"): 1}


def test_build_info():
    """The version and the form of a worker are labels."""
    (sample,) = build_info("cache").samples
    assert sample.value == 1
    assert sample.labels["worker"] == "cache"
    assert sample.labels["version"] == __version__
    assert sample.labels["form"] in ("pure", "compiled")
