"""The cache is restarted under load: what was resolved before, during and after the restart is found."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

from builders.dnstap_builders import START, WHOLE, Writer, framed, tap
from builders.talk import answer, query
from dnstrail.bus.ipc import lookups_address
from live.processes import PATIENCE, run_dir, started, wait_until
from live.workers import asker

_AT_ONCE = 5  # names that a resolver reports together
USER = 60999  # of the cache, if root runs the test
_PAUSE = 0.01  # seconds between them: a few hundred names a second


class Resolver(threading.Thread):
    """A resolver that resolves a few hundred new names a second, until it is stopped; `resolved` is their number."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.resolved = 0
        self.stop = threading.Event()
        self._writer = Writer(path)

    def run(self) -> None:
        """Report queries and answers by dnstap."""
        self._writer.send(START)
        for number in count(0, _AT_ONCE):
            self._writer.send(framed(*(frame for one in range(_AT_ONCE) for frame in resolve(number + one))))
            self.resolved = number + _AT_ONCE
            if self.stop.wait(_PAUSE):
                break
        self._writer.socket.close()


def resolve(number: int) -> tuple[bytes, bytes]:
    """Return a query and its answer in dnstap."""
    now, id_ = int(time.time()), number & 0xFFFF
    ends = {**WHOLE, "query_time_sec": now, "response_time_sec": now}
    asked = tap("CLIENT_QUERY", query_message=query(name_of(number), id_=id_), **ends)
    answered = tap(response_message=answer(name=name_of(number), id_=id_, ttl=600), **ends)
    return asked, answered


def name_of(number: int) -> str:
    """Return the name with this number."""
    return f"n{number}.example"


def state_options(run_dir: Path) -> tuple[str | Path, ...]:
    """Return the options of a cache with a folder for its state that belongs to its user."""
    folder = run_dir.parent / "state"
    folder.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(folder, USER, USER)
    return ("--state", folder / "image", *user_option())


def user_option() -> tuple[str, ...]:
    """Return the option that makes workers of root one user."""
    return () if os.geteuid() else ("--user", f"{USER}:{USER}")


class Pipeline:
    """A probe that goes on while its cache is ended and started."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.cache = self.start_cache()
        probe = (
            "probe",
            *user_option(),
            "--run-dir",
            folder,
            "--capture",
            f"dnstap:{folder}/dnstap.sock",
            "--subscribers",
            "1",
        )
        stack.enter_context(started(*probe))
        self.resolver = Resolver(listening(folder / "dnstap.sock"))
        self.resolver.start()
        stack.callback(self.resolver.join)
        stack.callback(self.resolver.stop.set)

    def start_cache(self) -> subprocess.Popen[str]:
        """Start a cache that keeps its state."""
        options = ("--dnscache", "size=50000", *state_options(self.folder), "--run-dir", self.folder)
        return self._stack.enter_context(started("cache", *options))

    def ask(self, op: str, **fields: object) -> dict:
        """Send a request to the present cache."""
        with asker(lookups_address(self.folder)) as client:
            return client.ask(op, **fields)

    def restart(self, how: signal.Signals) -> None:
        """End the cache, and start it again once further names are resolved; wait until it hears the probe."""
        self.cache.send_signal(how)
        self.cache.wait(PATIENCE)
        self.more()
        self.cache = self.start_cache()
        wait_until(lambda: self.ask("health")["data"]["probes"], "the probe")

    def more(self) -> int:
        """Wait until further names are resolved; return how many are."""
        before = self.resolver.resolved
        wait_until(lambda: self.resolver.resolved > before + 200, "further names")
        return self.resolver.resolved

    def wait_for(self, number: int) -> None:
        """Wait until the cache has a name."""
        wait_until(lambda: self.ask("get", key=name_of(number))["ok"], "the name")

    def found(self, numbers: range) -> set[int]:
        """Return the numbers of the names that are found."""
        held: set[int] = set()
        for first in range(numbers.start, numbers.stop, 500):
            part = numbers[first - numbers.start : first - numbers.start + 500]
            data = self.ask("get_many", keys=[name_of(number) for number in part])["data"]
            held |= {number for number, one in zip(part, data, strict=True) if one}
        return held

    def answers(self) -> dict[str, int]:
        """Return the number of answers to each question."""
        counted: dict[str, int] = {}
        cursor = None
        while cursor != "":
            page = self.ask("dump", cursor=cursor or "")["data"]
            cursor = page["next"]
            for record in page["records"]:
                counted[record["question"]] = counted.get(record["question"], 0) + len(record["answers"])
        return counted


def listening(path: Path) -> Path:
    """Return the path of a socket once a process listens there."""

    def connects() -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(path)) == 0

    wait_until(connects, "the socket")
    return path


@contextmanager
def pipeline() -> Iterator[Pipeline]:
    """Run a probe, a cache with state, and a resolver."""
    with run_dir() as folder, ExitStack() as stack:
        folder.parent.chmod(0o755)
        yield Pipeline(folder, stack)


def check(running: Pipeline, how: signal.Signals) -> None:
    """Restart the cache under load: each name is found, none has two answers, and nothing is counted as lost."""
    running.restart(how)
    running.wait_for(running.more())
    running.resolver.stop.set()
    running.resolver.join()
    names = range(running.resolver.resolved)
    running.wait_for(names[-1])
    stats = running.ask("stats")["data"]
    assert set(names) - running.found(names) == set(), f"{stats['lost']}, {stats['cache']}"
    assert running.answers() == dict.fromkeys(map(name_of, names), 1)
    assert stats["lost"]["bus"] == {}
    assert stats["cache"]["replayed"] > 0


def test_a_restart_loses_nothing():
    """Every name from before, during and after a restart is found: the probe replays what the cache missed."""
    with pipeline() as running:
        running.wait_for(running.more())
        check(running, signal.SIGTERM)


def test_a_crash_loses_nothing():
    """After kill -9 the cache goes on from its last snapshot, and the probe replays what came later."""
    with pipeline() as running:
        running.wait_for(running.more())
        running.restart(signal.SIGTERM)
        running.wait_for(running.more())
        check(running, signal.SIGKILL)


def test_damage_is_refused_in_one_line():
    """A cache whose file is damaged says so in one line of its log, and serves."""
    with run_dir() as folder:
        options = state_options(folder)
        (folder.parent / "state/image").write_bytes(b"damaged")
        with started("cache", *options, "--run-dir", folder) as cache:
            lines = [json.loads(cache.stderr.readline()) for _ in range(2)]
            assert [line["event"] for line in lines] == ["state_refused", "ready"]


def test_a_lookup_waits_for_a_probe_that_a_restarted_cache_has_not_heard_yet():
    """A cache that goes on from a state lets a lookup wait for an unknown start, which may be replayed."""
    with run_dir() as folder, started("cache", *state_options(folder), "--run-dir", folder):
        wait_until((folder / "lookups.sock").exists, "the cache")
        with asker(lookups_address(folder)) as client:
            assert client.ask("get", key="a.com", after=[["start", 0]])["complete"] is False
            assert client.ask("stats")["data"]["cache"]["parked"] == 1
