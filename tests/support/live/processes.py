"""Real processes of dnstrail for tests: started on a run-dir of their own, always ended."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

PATIENCE = 120.0  # seconds that a condition is waited for: on a busy host, with others of its kind


def dnstrail(*arguments: str | Path, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        _command(arguments),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        env=_environment(env),
        check=False,
    )


@contextmanager
def started(*arguments: str | Path, before: str = "", **env: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command as a process, which runs the Python code `before`; end it afterwards if it still runs."""
    command = _command(arguments)
    command[1:3] = ["-c", f"{before}\nfrom dnstrail_cli.__main__ import main\nmain()"] if before else command[1:3]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=_environment(env),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


@contextmanager
def run_dir(place: Path = Path("/tmp")) -> Iterator[Path]:
    """Make a folder whose path is short enough for sockets, at a place where only this user can make one."""
    folder = Path(tempfile.mkdtemp(prefix="dt-", dir=place))
    folder.chmod(0o755)
    try:
        (folder / "r").mkdir(mode=0o700)
        yield folder / "r"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def metrics_port(worker: subprocess.Popen[str]) -> int:
    """Return the port of a worker's metrics from its log."""
    lines = (json.loads(line) for line in worker.stderr or ())
    return int(next(line["port"] for line in lines if line["event"] == "metrics_served"))


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait for a condition; fail with `what` if it does not hold in time."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.02)


def _environment(more: dict[str, str]) -> dict[str, str]:
    """Return the environment of a command, with a run-dir that no other run of the tests uses, and without history."""
    return {"DNSTRAIL_RUN_DIR": str(_own_run_dir()), "DNSTRAIL_HISTORY_FOLDER": "none", **os.environ, **more}


@cache
def _own_run_dir() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="dt-", dir="/tmp"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / "r"


def _command(arguments: tuple[str | Path, ...]) -> list[str]:
    return [sys.executable, "-m", "dnstrail_cli", *map(str, arguments)]


def children_of(parent: int) -> list[int]:
    """Return the children of a process."""
    return [
        int(status.parent.name)
        for status in Path("/proc").glob("[0-9]*/status")
        if re.search(rf"^PPid:\t{parent}$", text_of(status), re.MULTILINE)
    ]


def alive(process: int) -> bool:
    """Return true if a process runs and is no zombie."""
    return bool(re.search(r"^State:\t[^Z]", text_of(Path(f"/proc/{process}/status")), re.MULTILINE))


class ProcessorTime(NamedTuple):
    """The seconds for which the threads of a process ran, and were ready to run while others ran."""

    used: float
    waited: float


def processor_time(process: int) -> ProcessorTime:
    """Return the processor time of a process until now."""
    tasks = [text_of(task / "schedstat").split() for task in Path(f"/proc/{process}/task").iterdir()]
    return ProcessorTime(*(sum(int(task[place]) for task in tasks if task) / 1e9 for place in (0, 1)))


def used_with_children(process: int) -> float:
    """Return the seconds for which the threads of a process and of its children ran until now, as a worker's relay."""
    return sum(processor_time(one).used for one in (process, *children_of(process)))


def resident(process: int) -> float:
    """Return the resident memory of a process in MiB."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", text_of(Path(f"/proc/{process}/status")), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def command_line(process: int) -> str:
    """Return the command line of a process."""
    return text_of(Path(f"/proc/{process}/cmdline"))


def text_of(path: Path) -> str:
    """Return the content of a file; "" if it is gone."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def unprivileged() -> list[str]:
    """Return what runs a command as nobody, or as root without capabilities if only root can run this Python."""
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    twice = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    if subprocess.run([*nobody, sys.executable, "-c", twice], capture_output=True, check=False).returncode == 0:
        return nobody
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
