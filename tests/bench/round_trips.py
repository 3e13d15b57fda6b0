"""Lookups over the bus, idle and while payloads stream into the cache, beside a bare pyzmq echo."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import zmq
from figures import SHARES, Figure
from live_events import questions
from stopwatch import times

from dnstrail.bus.ipc import lookups_address
from dnstrail.client import DnsDataSource
from dnstrail.errors import DataNotFound
from live.processes import run_dir, started, wait_until
from live.workers import asker

RATE, COUNT, MANY = 20_000, 4000, 32
_REPLY = bytes(200)  # the size of most replies
_IN_TURN = 100  # lookups, and as many messages to the echo


def measure(capture: str) -> Iterator[Figure]:
    """Ask a cache for the names of a capture, first under load."""
    names = _names(capture)
    with run_dir() as folder, started("cache", "--run-dir", folder, "--user", "0:0"):
        wait_until((folder / "lookups.sock").exists, "the cache")
        dns = DnsDataSource(lookups_address(folder), timeout=30)
        with _script("stream.py", folder, capture, RATE):
            wait_until(lambda: _messages(folder) > 2 * RATE, "the stream")
            loaded = times(names, lambda name: _get(dns, name), time.perf_counter_ns)
        wait_until(lambda: _health(folder) == "ended", "the end of the stream")
        idle, echo = _beside_echo(folder, dns, names)
        groups = [names[start : start + MANY] for start in range(0, len(names) - MANY, MANY)]
        many = times(groups, dns.get_many, time.perf_counter_ns)
    for title, samples in (("idle", idle), (f"{RATE:,} payloads a second", loaded)):
        for share in ("p50", "p99"):
            yield Figure(f"get, {title}: {share}", _at(samples, share), "us")
            yield Figure(f"get, {title}: {share}, against an echo", _at(samples, share) / _at(echo, share), "times")
    yield Figure("get, p99 under load against idle", _at(loaded, "p99") / _at(idle, "p99"), "times")
    keys_a_second = MANY / (sum(many) / len(many)) * (sum(idle) / len(idle))
    yield Figure(f"get_many of {MANY}, keys a second against single gets", keys_a_second, "times")


def _names(capture: str) -> list[str]:
    """Return questions of a capture, each once, as many as are asked for."""
    names = questions(capture)
    return (names * (COUNT // len(names) + 1))[:COUNT]


def _get(dns: DnsDataSource, name: str) -> None:
    try:
        dns.get(name)
    except DataNotFound:
        return  # its time to live was short


def _at(samples: list[float], share: str) -> float:
    return sorted(samples)[int(len(samples) * SHARES[share])]


def _beside_echo(folder: Path, dns: DnsDataSource, names: list[str]) -> tuple[list[float], list[float]]:
    """Return the times of lookups, and those of messages of the size of a reply to an echo and back.

    A few of each in turn: whatever else the host does slows both.
    """
    lookups, echoes = list[float](), list[float]()
    address = f"ipc://{folder}/echo.sock"
    with _script("echo.py", address), zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.setsockopt(zmq.REQ_RELAXED, 1)  # the frames of a lookup
        socket.setsockopt(zmq.REQ_CORRELATE, 1)
        socket.connect(address)

        def echo(_: str) -> None:
            socket.send(_REPLY)
            socket.recv()

        echo("")
        for start in range(0, len(names), _IN_TURN):
            some = names[start : start + _IN_TURN]
            lookups += times(some, partial(_get, dns), time.perf_counter_ns)
            echoes += times(some, echo, time.perf_counter_ns)
    return lookups, echoes


@contextmanager
def _script(name: str, *arguments: object) -> Iterator[None]:
    command = [sys.executable, str(Path(__file__).with_name(name)), *map(str, arguments)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")})
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _messages(folder: Path) -> int:
    with asker(lookups_address(folder)) as client:
        return client.ask("stats")["data"]["image"].get("messages", 0)


def _health(folder: Path) -> str:
    with asker(lookups_address(folder)) as client:
        return client.ask("health")["data"]["status"]
