"""Command lines of `dnstrail run` in the network namespace of a client, with a client and a server of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from live.namespaces import Hosts
from live.processes import PATIENCE
from live.processes import run_dir as made_run_dir

RUN = (sys.executable, "-m", "dnstrail_cli", "run")
# Begins a command that uses the cgroups of the host: `ip netns exec` hides them below a /sys of its own.
WITH_CGROUPS = ("sh", "-c", 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "sh")
# Accepts connections, and writes one line for each: the peer, and what it sent.
_SERVES = """
import socket
server = socket.create_server(("", 80), backlog=64)
print("ready", flush=True)
while True:
    connection, peer = server.accept()
    with connection:
        print(peer[0], connection.recv(200).decode(), flush=True)
"""
WEB_SERVER = (sys.executable, "-c", _SERVES)
# Connects to each name or address, and sends it with the process id.
_ASKS = """
import os, socket, sys
for name in sys.argv[1:]:
    with socket.create_connection((name, 80)) as connection:
        connection.sendall(f"{os.getpid()} {name}".encode())
"""


def within(network: Hosts, *command: str) -> list[str]:
    """Return the command line that runs a command on the client."""
    return ["ip", "netns", "exec", network.client, *command]


@contextmanager
def asking_folder() -> Iterator[Path]:
    """Make a folder with a script, asks.py, which connects to each name or address that it is given."""
    with made_run_dir() as made:
        made.chmod(0o755)
        (made / "asks.py").write_text(_ASKS)
        yield made


def on_client(
    network: Hosts, folder: Path, *command: str, run_dir: Path = Path("/nowhere"), **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command on the client, with a line on its stdin."""
    return subprocess.run(
        within(network, *command),
        cwd=folder,
        input="from stdin\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "SUDO_UID": "", "DNSTRAIL_RUN_DIR": str(run_dir), **env},
        check=False,
    )
