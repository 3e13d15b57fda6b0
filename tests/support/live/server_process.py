"""A server in a network namespace, and the file of what it saw."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from live.namespaces import Hosts
from live.processes import wait_until


@contextmanager
def serving(both: Hosts, seen: Path, *command: str) -> Iterator[Path]:
    """Run a server, which prints that it is ready; yield the file of its output."""
    with seen.open("w") as out:
        process = subprocess.Popen(["ip", "netns", "exec", both.server, *command], stdout=out)
        try:
            wait_until(lambda: "ready" in seen.read_text(), "the server")
            yield seen
        finally:
            process.kill()
            process.wait()
