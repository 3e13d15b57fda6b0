"""Measures one section in a process of its own, and prints its figures as JSON lines: section.py NAME CAPTURE."""

from __future__ import annotations

import gc
import importlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))


def main(name: str, capture: str) -> None:
    """Measure a section without a garbage collector, as in the cache."""
    gc.disable()
    for figure in importlib.import_module(name).measure(capture):
        print(json.dumps(figure), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
