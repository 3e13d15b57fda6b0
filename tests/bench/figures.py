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


def median(rounds: list[Figure]) -> Figure:
    """Return the figure of the round in the middle; one without a value if any round has none."""
    known = sorted((figure for figure in rounds if figure.value is not None), key=lambda figure: figure.value or 0.0)
    return known[len(known) // 2] if len(known) == len(rounds) else rounds[0]._replace(value=None)


def ratio(base: Figure | None, here: Figure | None) -> float | None:
    """Return a cost in processor time, as a multiple of the base; None for other figures, and where one is missing."""
    if base is None or here is None or here.unit != "us" or not base.value or here.value is None:
        return None
    return here.value / base.value


def _number(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "-"
    value = figure.value
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
