"""Daemons on a host, which end with the block that started them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hosts import Host
from live.processes import wait_until

# How the configuration of each unbound begins; its options for `server` follow.
UNBOUND = """
server:
    directory: "{folder}"
    username: ""
    chroot: ""
    pidfile: ""
    use-syslog: no
    do-daemonize: no
    num-threads: 1
"""


@contextmanager
def daemon(host: Host, log: Path, ready: Callable[[], object], *command: str | Path) -> Iterator[None]:
    """Run a daemon once it is ready; it must still run at the end of the block."""
    with log.open("wb") as out:
        process = subprocess.Popen(host.command(*command), stdout=out, stderr=out)
    try:
        wait_until(lambda: process.poll() is not None or ready(), log.stem)
        assert process.poll() is None, log.read_text(errors="replace")
        yield
        assert process.poll() is None, log.read_text(errors="replace")
    finally:
        process.terminate()
        process.wait(10)
