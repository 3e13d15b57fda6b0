"""The JSON lines that a command writes while it runs on a service."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from live.processes import PATIENCE, wait_until


class Output:
    """The JSON lines that a command writes."""

    def __init__(self, out: Path, err: Path) -> None:
        self._out = out
        self._err = err

    @property
    def rows(self) -> list[dict]:
        """The lines so far."""
        return [json.loads(line) for line in self._out.read_text().splitlines(keepends=True) if line.endswith("\n")]

    @property
    def errors(self) -> str:
        """Its stderr."""
        return self._err.read_text()

    def named(self, *names: str) -> list[dict]:
        """Return the transactions of some names."""
        return [row for row in self.rows if row["name"] in names]


@contextmanager
def written(folder: Path, *arguments: str) -> Iterator[Output]:
    """Run a command on a service until the end of the block, once it is ready."""
    number = len([*folder.parent.glob("*.out")])
    out, err = folder.parent / f"{number}.out", folder.parent / f"{number}.err"
    command = [sys.executable, "-m", "dnstrail_cli", *arguments, "--run-dir", str(folder)]
    with out.open("w") as stdout, err.open("w") as stderr:
        process, output = subprocess.Popen(command, stdout=stdout, stderr=stderr), Output(out, err)
        try:
            wait_until(lambda: "ready" in output.errors or process.poll() is not None, arguments[0])
            assert process.poll() is None, output.errors
            yield output
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
        assert process.returncode == 0, output.errors
