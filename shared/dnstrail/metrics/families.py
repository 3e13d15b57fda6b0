"""Families of metrics from counters and histograms. The number of series of each family is bounded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from dnstrail import __version__
from dnstrail.metrics.histogram import Histogram
from dnstrail.process.command import build_form

MOST_SERIES = 128  #: counters of one metric -> the others are added up as `other`
OTHER = "other"  # the label of the sum of all others


def build_info(worker: str) -> Metric:
    """Return the version and the form of this worker, as labels of a metric that is always 1."""
    family = GaugeMetricFamily("dnstrail_build_info", "Version and form of the worker.", labels=_BUILD)
    family.add_metric([worker, __version__, build_form()], 1)
    return family


_BUILD = ["worker", "version", "form"]


def counter(name: str, text: str, value: float) -> Metric:
    """Return one counter."""
    return CounterMetricFamily(name, text, value=value)


def gauge(name: str, text: str, value: float) -> Metric:
    """Return one gauge."""
    return GaugeMetricFamily(name, text, value=value)


def gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a gauge for each value of a label, whose number the caller bounds."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Return a counter for each value of a label; beyond MOST_SERIES the later ones are added up."""
    family = CounterMetricFamily(name, text, labels=[label])
    kept = dict(list(values.items())[:MOST_SERIES])
    for value, count in kept.items():
        family.add_metric([value], count)
    if len(values) > MOST_SERIES:
        family.add_metric([OTHER], sum(values.values()) - sum(kept.values()))
    return family


def one_of(name: str, text: str, label: str, states: Iterable[str], present: str) -> Metric:
    """Return a gauge for each state: 1 for the present state, and 0 for all others."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for state in states:
        family.add_metric([state], float(state == present))
    return family


def histograms(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], Histogram]]
) -> Metric:
    """Return a histogram for each combination of labels."""
    family = HistogramMetricFamily(name, text, labels=labels)
    for of_labels, histogram in values:
        bounds = [*map(str, histogram.bounds), "+Inf"]
        buckets = [*zip(bounds, map(float, accumulate(histogram.counts)), strict=True)]
        family.add_metric(of_labels, buckets, histogram.total)
    return family
