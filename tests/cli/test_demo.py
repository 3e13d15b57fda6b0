"""`make demo`: the first thing that somebody sees of dnstrail."""

from __future__ import annotations

import subprocess
import sys

from live.processes import PATIENCE


def test_demo_shows_a_lookup_its_trails_and_a_finding():
    """The demo plays the bundled capture without root, and prints the names, the paths and the finding."""
    command = [sys.executable, "-m", "dnstrail_cli.demo"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    for shown in ("root       news.example", "rival, live", "watched_name=c2.example"):
        assert shown in done.stdout
