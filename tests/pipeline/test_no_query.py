"""dnstrail sends no query of its own: no worker resolves a name, or reaches for an internet address."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.processes import dnstrail, run_dir

# Every worker imports it: it notes what Python's sockets do (sys.addaudithook), apart from unix sockets.
NOTE = """
import os, sys

def note(event, arguments):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        address = arguments[1] if len(arguments) > 1 else arguments
        if isinstance(address, tuple) or event.startswith("socket.get"):
            os.write(file, f"{[event, repr(arguments[1:] or arguments)]!r}\\n".encode())

file = os.open(PATH, os.O_WRONLY | os.O_APPEND)
os.write(file, b"['started', '']\\n")
sys.addaudithook(note)
"""
EVENTS = "net_packet_dns,WATCHED_NAME,DNS_TUNNEL,DNS_REBINDING,CONNECTION_WITHOUT_DNS,DNS_NEW_DOMAIN,ENCRYPTED_DNS"


REACHES = """
import socket
socket.getaddrinfo("127.0.0.1", 53)
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("127.0.0.1", 53))
"""


@pytest.fixture
def notes() -> Iterator[Path]:
    """Yield the file of the notes, in a folder with the hook."""
    with run_dir() as folder:
        folder.chmod(0o755)  # the unprivileged workers read the hook, and append to the notes
        file = folder / "notes"
        file.touch()
        file.chmod(0o666)
        (folder / "sitecustomize.py").write_text(NOTE.replace("PATH", repr(str(file))))
        yield file


def events(notes: Path) -> list[str]:
    """Return the notes so far."""
    return [ast.literal_eval(line)[0] for line in notes.read_text().splitlines()]


def test_no_worker_sends_a_query(notes):
    """Over a capture, with signatures on, nothing is resolved and no internet socket is used."""
    options = ("--capture", "demo", "--run-dir", notes.parent / "run", "--events", EVENTS)
    done = dnstrail(*options, PYTHONPATH=str(notes.parent))
    assert done.returncode == 0, done.stderr
    assert "WATCHED_NAME" in done.stdout
    assert events(notes).count("started") >= 4
    assert {*events(notes)} == {"started"}


def test_a_query_would_be_noted(notes):
    """The hook sees a program that resolves a name, or connects to a resolver."""
    environment = {**os.environ, "PYTHONPATH": str(notes.parent)}
    subprocess.run([sys.executable, "-c", REACHES], env=environment, check=True)
    assert events(notes) == ["started", "socket.getaddrinfo", "socket.connect"]
