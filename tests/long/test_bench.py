"""The comparison of two commits by the bench."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "tests/bench/bench.py"


def test_a_cost_above_the_limit_fails():
    """Both commits are measured; a cost that exceeds its limit is named, and the checkout is removed."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    command = [sys.executable, str(BENCH), "bus_batches", "--against", "HEAD", "--rounds", "1", "--limit", "0.001"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(r" HEAD +here +ratio\n", done.stdout)
    assert re.search(r"  an event, received +[0-9.]+ +[0-9.]+ +[0-9.]+  us\n", done.stdout)
    assert "more than 0.001 times the cost of HEAD: an event, written, an event, received" in done.stderr
    listed = subprocess.run(["git", "-C", str(ROOT), "worktree", "list"], capture_output=True, text=True, check=True)
    assert "/base " not in listed.stdout
