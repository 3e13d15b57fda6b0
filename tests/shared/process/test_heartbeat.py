from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnstrail.process.heartbeat import HEARTBEAT, SILENCE, Heartbeat, HeartbeatMonitor


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def systemd(address: str) -> Iterator[socket.socket]:
    """Bind a socket in place of systemd's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as receiver:
        receiver.bind(address.replace("@", "\0"))
        yield receiver


def received(receiver: socket.socket) -> list[bytes]:
    """Return the messages that have arrived."""
    found = []
    while True:
        try:
            found.append(receiver.recv(100))
        except BlockingIOError:
            return found


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_notified(tmp_path: Path, abstract: bool) -> None:
    """The first beat reports that the worker is ready; a further one is sent each second, and none in between."""
    address = f"@dnstrail-{os.getpid()}" if abstract else str(tmp_path / "notify")
    clock = Clock()
    with systemd(address) as receiver:
        heartbeat = Heartbeat({"NOTIFY_SOCKET": address}, clock)
        assert received(receiver) == []
        heartbeat.beat()
        assert received(receiver) == [b"READY=1\nWATCHDOG=1"]
        for _ in range(10):
            heartbeat.beat()
        assert received(receiver) == []
        clock.now += 1
        heartbeat.beat()
        assert received(receiver) == [b"WATCHDOG=1"]


def test_ready_is_reported_again_until_it_arrives(tmp_path: Path) -> None:
    """A message that could not be sent is sent with the next beat."""
    clock = Clock()
    heartbeat = Heartbeat({"NOTIFY_SOCKET": str(tmp_path / "notify")}, clock)
    heartbeat.beat()
    with systemd(str(tmp_path / "notify")) as receiver:
        clock.now += 1
        heartbeat.beat()
        assert received(receiver) == [b"READY=1\nWATCHDOG=1"]


def test_no_receiver_is_no_failure(tmp_path: Path) -> None:
    """Without receivers, with broken ones, and with one that reads nothing, a beat does nothing and never waits."""
    clock = Clock()
    Heartbeat({}, clock).beat()
    Heartbeat({HEARTBEAT: "nonsense"}, clock).beat()
    Heartbeat({HEARTBEAT: "1000000", "NOTIFY_SOCKET": "/none"}, clock).beat()
    with systemd(str(tmp_path / "notify")):
        heartbeat = Heartbeat({"NOTIFY_SOCKET": str(tmp_path / "notify")}, clock)
        for _ in range(5000):
            clock.now += 1
            heartbeat.beat()


@contextmanager
def monitored(clock: Clock) -> Iterator[tuple[HeartbeatMonitor, Heartbeat]]:
    """Yield both ends of a heartbeat."""
    monitor = HeartbeatMonitor()
    try:
        yield monitor, Heartbeat({HEARTBEAT: str(monitor.descriptor)}, clock)
    finally:
        monitor.close()


def silent_seconds(monitor: HeartbeatMonitor, clock: Clock) -> int:
    """Return how many seconds pass until a worker counts as silent."""
    for second in range(100):
        if monitor.is_silent(clock.now):
            return second
        clock.now += 1
    return -1


def test_a_worker_without_beats_is_silent_after_five_seconds() -> None:
    """A worker is silent if its last beat is more than five seconds old, and not before."""
    clock = Clock()
    with monitored(clock) as (monitor, heartbeat):
        for _ in range(10):
            heartbeat.beat()
            assert not monitor.is_silent(clock.now)
            clock.now += 1
        assert silent_seconds(monitor, clock) == SILENCE


def test_a_worker_that_has_not_begun_is_not_silent() -> None:
    """Before its first beat a worker is not silent, however long it takes."""
    clock = Clock()
    with monitored(clock) as (monitor, _):
        assert silent_seconds(monitor, clock) == -1


def test_a_worker_is_not_blamed_for_a_stop_of_both() -> None:
    """If the monitor itself was not called for long, the five seconds begin anew."""
    clock = Clock()
    with monitored(clock) as (monitor, heartbeat):
        heartbeat.beat()
        assert not monitor.is_silent(clock.now)
        clock.now += 3600
        assert silent_seconds(monitor, clock) == SILENCE + 1
