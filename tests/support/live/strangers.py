"""Strangers: a group member who may use the sockets of a worker, and behaves as badly as he can."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from live.raw_peer import frame

GROUP = 60_541  # of the folder; no other process of this host has it
STRANGER, HONEST = 60_542, 60_544  # users of that group
PING = b"\x04\x07\x04PING" + struct.pack("!H", 600)  # with a time to live of a minute (RFC 37/ZMTP)
SENT = {  # by socket: what kind of peer it is for, and one message of such a peer
    "lookups": (b"DEALER", frame(b"", more=True) + frame(b"\x81\xa1v\x01")),
    "events": (b"SUB", frame(b"\x01topic")),
    "findings": (b"PUSH", frame(b"finding")),
}
_WORKER = """
import sys
from dnstrail.bus import ZmqBus
bus, folder = ZmqBus(), sys.argv[1]
server = bus.server(f"ipc://{folder}/lookups.sock")
publisher = bus.publisher(f"ipc://{folder}/events.sock", lossless=False)
puller = bus.puller(f"ipc://{folder}/findings.sock")
print("ready", flush=True)
while True:
    bus.wait(server, puller, timeout=0.01)
    for _ in range(64):
        if (request := server.receive()) is None:
            break
        request.reply(str(request.user).encode())
    while puller.receive() is not None:
        pass
    publisher.subscribers("topic")
    publisher.publish("topic", bytes(1000))
"""


def open_folder(folder: Path) -> Path:
    """Let the group of the strangers into a folder."""
    os.chown(folder, 0, GROUP)
    folder.chmod(0o750)
    return folder


@contextmanager
def bus_worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that serves one socket of each kind in a folder: a server, a publisher and a puller."""
    command = [sys.executable, "-c", _WORKER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
            yield worker
        finally:
            worker.kill()


@contextmanager
def as_user(user: int) -> Iterator[None]:
    """Be a user of the group for the connections that this block makes (SO_PEERCRED), and root again."""
    os.setegid(GROUP)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
