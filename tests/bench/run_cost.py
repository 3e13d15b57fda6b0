"""The cost of `dnstrail run`: builds with and without it, in pairs, as root on the real kernel."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from figures import Figure

from live.mirrors import builds, environment_of, make_client, make_mirrors, script_of
from live.namespaces import hosts
from live.pipelines import pipeline
from live.processes import run_dir
from live.run_commands import RUN, within
from live.server_process import serving
from live.web_site import SERVES

PAIRS = 10
_FILES = 60
_MAKEFILE = """
all: $(patsubst %.c,%.o,$(wildcard *.c))
\tcc -o program $^
"""


def measure(_capture: str) -> Iterator[Figure]:
    """Measure with a pipeline that runs already, with one that each run starts for itself, and with a learned list."""
    if os.geteuid() != 0:
        yield Figure("not measured: it needs root", None)
        return
    with tempfile.TemporaryDirectory() as made, pipeline("--output", "json") as running:
        build = _project(Path(made))
        for title, folder in (
            ("a build under a running pipeline", running.folder),
            ("a build with a pipeline of its own, its start included", Path("/nowhere")),
        ):
            env = {**os.environ, "SUDO_UID": "", "DNSTRAIL_RUN_DIR": str(folder)}
            yield from _ratios(title, build, [*RUN, "--quiet", "--", *build], None, env)
        yield from _held(running.folder)


def _held(run_folder: Path) -> Iterator[Figure]:
    """Measure a build with pip, apt, git and npm against mirrors on another host, which --enforce holds to its list."""
    with hosts() as both, run_dir() as made:
        made.chmod(0o755)
        make_client(made)
        make_mirrors(made / "served")
        with serving(both, made / "seen", sys.executable, "-c", SERVES, str(made / "served")):
            build = ["sh", "-c", script_of(builds())]
            env = environment_of(made, DNSTRAIL_RUN_DIR=str(run_folder))
            learn = within(both, *RUN, "--quiet", "--allow-learn", "learned", "--", *build)
            subprocess.run(learn, cwd=made, env=env, check=True, stdout=subprocess.DEVNULL)
            run = within(both, *RUN, "--quiet", "--allow", "learned", "--enforce", "--", *build)
            title = f"{', '.join(builds())} with --enforce under a running pipeline"
            yield from _ratios(title, within(both, *build), run, made, env)


def _project(folder: Path) -> list[str]:
    """Make a C program of many files; return the command that builds it."""
    for number in range(_FILES):
        body = "".join(f"int f{number}_{line}(int x) {{ return x * {line}; }}\n" for line in range(200))
        (folder / f"file{number}.c").write_text(f"#include <stdio.h>\n{body}")
    (folder / "main.c").write_text("int main(void) { return 0; }\n")
    (folder / "Makefile").write_text(_MAKEFILE)
    return ["make", "-s", "-B", "-j2", "-C", str(folder)]


def _ratios(title: str, build: list[str], run: list[str], folder: Path | None, env: dict[str, str]) -> Iterator[Figure]:
    """Yield the ratios of pairs of builds; each pair begins with the other form."""
    walls, extra, processors = [], [], []
    _seconds(run, folder, env)
    for number in range(PAIRS):
        first, second = (build, run) if number % 2 else (run, build)
        times = [_seconds(first, folder, env), _seconds(second, folder, env)]
        (alone, alone_used), (watched, watched_used) = times if number % 2 else times[::-1]
        walls.append(watched / alone)
        extra.append(watched - alone)
        processors.append(watched_used / alone_used)
    yield Figure(f"{title}: wall time, median of {PAIRS} pairs", statistics.median(walls), "times")
    yield Figure(f"{title}: most", max(walls), "times")
    yield Figure(f"{title}: more, median", statistics.median(extra), "s")
    yield Figure(f"{title}: processor time without the pipeline, median", statistics.median(processors), "times")


def _seconds(command: list[str], folder: Path | None, env: dict[str, str]) -> tuple[float, float]:
    """Return the wall time of a command, and the processor time of all its processes."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder, env=env)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - began, used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
