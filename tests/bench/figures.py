"""The figures that a section yields, and how they become lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


class Figure(NamedTuple):
    """One measured value. A figure without a value states in its title why it was not measured."""

    title: str
    value: float | None
    unit: str = ""


def spread(title: str, samples: list[float], unit: str, *shares: str) -> Iterator[Figure]:
    """Yield the mean of samples, and some of their percentiles."""
    samples = sorted(samples)
    yield Figure(f"{title}: mean", sum(samples) / len(samples), unit)
    for share in shares:
        yield Figure(f"{title}: {share}", samples[int(len(samples) * SHARES[share])], unit)


def line(title: str, figures: list[Figure | None]) -> str:
    """Return the line of one figure, with one value for each form."""
    values = "".join(f"{_number(figure):>12}" for figure in figures)
    unit = next((figure.unit for figure in figures if figure), "")
    return f"  {title:<62}{values}  {unit}".rstrip()


def _number(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "-"
    value = figure.value
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
