"""dnstrail's probe and cache as processes, on a run-dir of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dnstrail.bus.ipc import events_address, lookups_address, socket_path
from live.processes import run_dir, started, wait_until

_MIB = 1024  # KiB
_USER = 61111  # of the workers


class Workers:
    """The probe and the cache, of which the cache can be restarted. It goes on from its file of state."""

    def __init__(self, folder: Path, capture: str, *, server_names: bool) -> None:
        self.folder = folder
        kept = folder.parent / "state"
        kept.mkdir(mode=0o700)
        os.chown(kept, _USER, _USER)
        self._commands = {
            "probe": ("probe", "--capture", capture, *(("--evidence", "sni") if server_names else ())),
            "cache": ("cache", "--state", str(kept / "image")),
        }
        self._running: dict[str, tuple[ExitStack, subprocess.Popen[str]]] = {}
        for name in self._commands:
            self._start(name)
        for address in (events_address(folder), lookups_address(folder)):
            wait_until(socket_path(address).exists, address)

    @property
    def running(self) -> bool:
        """True if no worker has ended by itself."""
        return all(process.poll() is None for _, process in self._running.values())

    def restart_cache(self) -> None:
        """End the cache, and start it again."""
        self._running.pop("cache")[0].close()
        self._start("cache")

    def memory(self) -> dict[str, int]:
        """Return the memory that each worker holds, in MiB."""
        return {name: _resident(process.pid) // _MIB for name, (_, process) in self._running.items()}

    def close(self) -> None:
        """End all workers."""
        for stack, _ in self._running.values():
            stack.close()

    def _start(self, name: str) -> None:
        stack = ExitStack()
        words = (*self._commands[name], "--run-dir", self.folder, "--user", f"{_USER}:{_USER}")
        self._running[name] = stack, stack.enter_context(started(*words, DNSTRAIL_RUN_DIR=str(self.folder)))


@contextmanager
def workers(capture: str, *, server_names: bool) -> Iterator[Workers]:
    """Run the workers; none may end by itself."""
    with run_dir() as above:
        above.chmod(0o755)
        found = Workers(above / "run", capture, server_names=server_names)
        try:
            yield found
            assert found.running, "a worker of dnstrail has ended"
        finally:
            found.close()


def _resident(process: int) -> int:
    """Return the resident memory of a process in KiB, 0 after its end."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
