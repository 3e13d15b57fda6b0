"""The cost of `dnstrail run`: a build with and without it, in pairs, as root on the real kernel."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure

from live.pipelines import pipeline

PAIRS = 10
_FILES = 60
_MAKEFILE = """
all: $(patsubst %.c,%.o,$(wildcard *.c))
\tcc -o program $^
"""


def measure(_capture: str) -> Iterator[Figure]:
    """Measure with a pipeline that runs already, and with one that each run starts for itself."""
    if os.geteuid() != 0:
        yield Figure("not measured: it needs root", None)
        return
    with tempfile.TemporaryDirectory() as made, pipeline("--output", "json") as running:
        build = _project(Path(made))
        yield from _ratios("a build under a running pipeline", build, running.folder)
        yield from _ratios("a build with a pipeline of its own, its start included", build, Path("/nowhere"))


def _project(folder: Path) -> list[str]:
    """Make a C program of many files; return the command that builds it."""
    for number in range(_FILES):
        body = "".join(f"int f{number}_{line}(int x) {{ return x * {line}; }}\n" for line in range(200))
        (folder / f"file{number}.c").write_text(f"#include <stdio.h>\n{body}")
    (folder / "main.c").write_text("int main(void) { return 0; }\n")
    (folder / "Makefile").write_text(_MAKEFILE)
    return ["make", "-s", "-B", "-j2", "-C", str(folder)]


def _ratios(title: str, build: list[str], run_dir: Path) -> Iterator[Figure]:
    """Yield the ratios of the wall times of pairs of builds; each pair begins with the other form."""
    run = [sys.executable, "-m", "dnstrail_cli", "run", "--quiet", "--", *build]
    ratios, extra = [], []
    _seconds(run, run_dir)
    for number in range(PAIRS):
        first, second = (build, run) if number % 2 else (run, build)
        times = [_seconds(first, run_dir), _seconds(second, run_dir)]
        alone, watched = times if number % 2 else times[::-1]
        ratios.append(watched / alone)
        extra.append(watched - alone)
    yield Figure(f"{title}: wall time, median of {PAIRS} pairs", statistics.median(ratios), "times")
    yield Figure(f"{title}: most", max(ratios), "times")
    yield Figure(f"{title}: more, median", statistics.median(extra), "s")


def _seconds(command: list[str], run_dir: Path) -> float:
    began = time.monotonic()
    env = {**os.environ, "SUDO_UID": "", "DNSTRAIL_RUN_DIR": str(run_dir)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env)
    return time.monotonic() - began
