"""`dnstrail history` beside a running service: real processes, killed at any moment.

Tests of dnstrail_history.forget.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

from builders.facts import read_segments, stored
from dnstrail.events import OUTCOMES
from live.processes import PATIENCE, dnstrail, run_dir, started, wait_until
from live.tapped_resolver import resolved, resolver

KILLS = 2  # tests/long has more


def names(history: Path) -> Counter[str]:
    """Return how often each name is stored."""
    query = "SELECT text FROM transactions JOIN texts ON texts.id = name"
    return Counter(name for (name,) in read_segments(history, lambda database: database.execute(query)))


def logged(worker: subprocess.Popen[str], event: str) -> dict:
    """Return the next line of the log of a worker with an event."""
    return next(line for line in map(json.loads, worker.stderr) if line["event"] == event)


def subscribed(client, writer) -> None:
    """Wait until the cache publishes facts."""
    wait_until(lambda: writer.send(resolved(0)) or client.ask("stats")["data"]["cache"].get("facts_published"), "facts")


def record(client, writer, worker: subprocess.Popen[str], history: Path, numbers: range) -> None:
    """Wait until a worker that has just started has stored some transactions, and the one before."""
    logged(worker, "ready")
    subscribed(client, writer)
    for number in numbers:
        writer.send(resolved(number))
    wait_until(lambda: len(names(history)) == 1 + len(numbers), "the transactions")


def test_the_history_keeps_the_transactions_of_a_service():
    """The worker stores each transaction of a service with its answer, and ends without a loss."""
    with resolver() as (folder, client, writer):
        history = folder.parent / "history"
        with started("history", "--run-dir", folder, "--folder", history) as worker:
            record(client, writer, worker, history, range(1, 24))
            worker.send_signal(signal.SIGTERM)
            stopped = logged(worker, "stopped")
            assert worker.wait(PATIENCE) == 0
        assert stopped["stored"] == stopped["received"]
        found = {fact.values.name: fact for fact in stored(history)}
        assert (*found["n1.example"].values.owned,) == (("n1.example", 1, "192.0.2.7", 60),)
        assert {OUTCOMES[fact.values.outcome] for fact in found.values()} == {"answered", "nxdomain"}
        assert client.ask("stats")["data"]["lost"]["workers"] == {}


def test_a_killed_history_has_each_transaction_once():
    """Killed while transactions arrive, and started again, the worker has each of them once."""
    with resolver() as (folder, client, writer):
        history, number = folder.parent / "history", 1
        with started("history", "--run-dir", folder, "--folder", history) as worker:
            logged(worker, "ready")
            subscribed(client, writer)
        for _ in range(KILLS):
            with started("history", "--run-dir", folder, "--folder", history) as worker:
                logged(worker, "ready")
                for _ in range(200):
                    writer.send(resolved(number))
                    number += 1
                os.kill(worker.pid, signal.SIGKILL)
                worker.wait(PATIENCE)
            writer.send(resolved(number))  # while nobody is there
            number += 1
        with started("history", "--run-dir", folder, "--folder", history) as worker:
            expected = {f"n{one}.example" for one in range(1, number)}
            wait_until(lambda: expected <= {*names(history)}, "the transactions")
        ids = Counter(fact.values.id for fact in stored(history))
        assert [one for one, count in ids.items() if count > 1] == []
        assert client.ask("stats")["data"]["lost"]["workers"] == {}


def bytes_of(history: Path) -> bytes:
    """Return the bytes of all files of a folder, from which a running worker may remove some meanwhile."""
    found = []
    for path in history.iterdir():
        with suppress(FileNotFoundError):
            found.append(path.read_bytes())
    return b"".join(found)


def test_what_is_excluded_is_in_no_file():
    """A running worker keeps nothing about an excluded name, by the settings, and all else."""
    with resolver() as (folder, client, writer):
        history, settings = folder.parent / "history", folder.parent / "settings.toml"
        settings.write_text('[history]\nexclude = ["name=n7.example", "container=web"]\n')
        arguments = ("--config", settings, "--run-dir", folder, "--folder", history)
        with started("history", *arguments) as worker:
            kept = logged(worker, "names_are_kept")
            assert (kept["folder"], kept["days"]) == (str(history), 7)
            logged(worker, "ready")
            subscribed(client, writer)
            for number in range(5, 9):
                writer.send(resolved(number))
            wait_until(lambda: len(names(history)) == 4, "the transactions")
            worker.send_signal(signal.SIGTERM)
            assert logged(worker, "stopped")["excluded"] == 1
        assert {*names(history)} == {f"n{number}.example" for number in (0, 5, 6, 8)}
        assert b"n7.example" not in bytes_of(history)
        with started("history", *arguments) as worker:
            assert json.loads(worker.stderr.readline())["event"] == "ready"  # only the first start states what is kept


def test_a_running_worker_forgets():
    """`history forget` returns once no file has the name, while the worker runs on; so it does without a worker."""
    with resolver() as (folder, client, writer):
        history = folder.parent / "history"
        forget = ("history", "--folder", history, "forget")
        with started("history", "--run-dir", folder, "--folder", history) as worker:
            record(client, writer, worker, history, range(1, 9))
            assert b"n7.example" in bytes_of(history)
            done = dnstrail(*forget, "n7.example")
            assert done.returncode == 0, done.stderr
            assert b"n7.example" not in bytes_of(history)
            writer.send(resolved(9))
            wait_until(lambda: "n9.example" in names(history), "a later transaction")
            assert worker.poll() is None
        assert dnstrail(*forget, "n9.example").returncode == 0
        assert {*names(history)} == {f"n{number}.example" for number in (*range(7), 8)}
        assert b"n9.example" not in bytes_of(history)
        assert [dnstrail(*forget, *wrong).returncode for wrong in ((), ("a.example", "--user", "0"))] == [2, 2]
        assert dnstrail("history", "--folder", history / "none", "forget", "a.example").returncode == 2


def test_exit_codes():
    """A folder that is in use or is no folder exits with 2."""
    with run_dir() as folder:
        history = folder.parent / "history"
        with started("history", "--run-dir", folder, "--folder", history) as worker:
            logged(worker, "ready")
            second = dnstrail("history", "--run-dir", folder, "--folder", history)
            assert (second.returncode, "in use" in second.stderr) == (2, True), second.stderr
        (folder.parent / "file").touch()
        wrong = dnstrail("history", "--run-dir", folder, "--folder", folder.parent / "file" / "below")
        assert wrong.returncode == 2, wrong.stderr
