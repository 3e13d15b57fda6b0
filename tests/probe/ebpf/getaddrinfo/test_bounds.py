"""The bounds of the getaddrinfo programs and of their libraries are the ones that docs/inside/kernel.md states."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import dnstrail_probe.ebpf

PAGE = Path(__file__).parents[4] / "docs/inside/kernel.md"
PROGRAMS = Path(dnstrail_probe.ebpf.__file__).with_name("programs")
ROW = re.compile(r"^\| .+? \| ([\d,]+)( s| ms|) \| .* <!-- (.+) --> \|$", re.MULTILINE)
UNITS = {"": 1, " s": 1, " ms": 0.001}
BOUNDS = {name: int(value.replace(",", "")) * UNITS[unit] for value, unit, name in ROW.findall(PAGE.read_text())}


def constant(name: str) -> float:
    """Return a constant by its path in Python, or by its file and name in C."""
    file, _, macro = name.partition(" ")
    if macro:
        return int(re.search(rf"^#define {macro} (\d+)", (PROGRAMS / file).read_text(), re.MULTILINE)[1])
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_is_the_one_that_is_documented(name):
    """The value of a bound on the page is the value of its constant."""
    assert constant(name) == BOUNDS[name]


def test_all_bounds_are_read():
    """The table of the page has a row for every bound."""
    assert len(BOUNDS) == PAGE.read_text().partition("## Bounds")[2].count("<!--") == 12
