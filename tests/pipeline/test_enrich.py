"""Beside a real cache: names, order, a cache that is killed, and readers and writers that go away.

Tests of dnstrail_cli.enrich.command, dnstrail_cli.enrich.asking.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from io import BufferedReader

import pytest

from builders.facts import OF_UNIT, SECOND, fact_of, progress_of
from builders.tool_events import line_of, tool_events
from dnstrail.bus.ipc import lookups_address
from dnstrail_history.store.store import FactStore
from live.processes import PATIENCE, run_dir, started, wait_until
from live.stopped import read_over_a_stop
from live.tapped_resolver import resolved, resolver
from live.workers import FakeClock, asker, probe, response, seen

SERVER, AT = "192.0.2.10", 1_793_534_402_500_000_000  # an address of the demo, at a time within it
ADDED = b',"destination.domain":'


@contextmanager
def enriching(folder, *options):
    """Run the command with pipes at all ends."""
    command = [sys.executable, "-m", "dnstrail_cli", "enrich", "--run-dir", str(folder), *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0) as process:
        try:
            yield process
        finally:
            process.kill()


def send(process, *lines):
    process.stdin.write(b"".join(lines))


def zeek(number, address="192.0.2.7"):
    """Return the line of a connection that begins now."""
    event = {"ts": time.time(), "uid": f"C{number}", "id.orig_h": "192.0.2.101", "id.orig_p": number}
    return line_of({**event, "id.resp_h": address, "id.resp_p": 443})


@pytest.fixture(scope="module")
def demo():
    """Yield the run-dir of a pipeline that has played the demo capture and stays."""
    with (
        run_dir() as folder,
        started("--capture", "demo", "--stay", "--run-dir", folder),
        asker(lookups_address(folder)) as client,
    ):
        wait_until(lambda: client.ask("health")["data"]["status"] == "ended", "the end of the demo capture")
        yield folder


def test_each_tool_has_the_name_of_the_trail(demo, tmp_path):
    """An event of each tool gets the name that `trail` gives for its connection, and keeps its own bytes."""
    events = tool_events(SERVER, AT)
    lines = [line_of(event) for event, _ in events.values()]
    for number, line in enumerate(lines):
        (tmp_path / str(number)).write_bytes(line)
    done = subprocess.run(
        [sys.executable, "-m", "dnstrail_cli", "enrich", "--run-dir", demo, *map(str, range(len(lines)))],
        cwd=tmp_path,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    found = done.stdout.splitlines(keepends=True)
    with asker(lookups_address(demo)) as client:
        for line, out, (event, stated) in zip(lines, found, events.values(), strict=True):
            trails = client.ask("trail", key=SERVER, port=443, at_ns=AT, **stated)["data"]["trails"]
            assert json.loads(out)["destination.domain"] == trails[0]["dns_root"], event
            assert out.partition(ADDED)[0] + b"}\n" == line
    assert f"dnstrail: {len(lines)} named, 0 unnamed".encode() in done.stderr


def test_hostile_lines_pass_beside_others(demo):
    """Whatever stands between them, lines of tools are named, and all others keep their bytes and places."""
    named = line_of(tool_events(SERVER, AT)["zeek"][0])
    hostile = [os.urandom(999).replace(b"\n", b""), b"[" * 99_999, b'{"id.resp_h":' + b"9" * 99_999, b"x" * (3 << 20)]
    data = b"".join(named + other + b"\n" for other in hostile)
    done = dnstrail_bytes(demo, data)
    assert done.stdout.split(b"\n")[1::2] == hostile
    assert done.stdout.count(ADDED) == len(hostile)


def dnstrail_bytes(folder, data, *options):
    command = [sys.executable, "-m", "dnstrail_cli", "enrich", "--run-dir", folder, *options]
    return subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE, check=False)


def test_a_line_leaves_while_its_writer_is_idle(demo):
    """A line leaves though stdin stays open. SIGTERM then ends the command with its counts."""
    line = line_of(tool_events(SERVER, AT)["suricata"][0])
    with enriching(demo) as process:
        for _ in range(2):
            send(process, line)
            assert ADDED in process.stdout.readline()
        process.terminate()
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, b"2 named" in errors) == (0, True)


def test_a_stop_loses_nothing(demo, monkeypatch):
    """Of a line that does not fit into the pipe, all bytes leave, though the command is stopped in the middle."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")  # as in the image of dnstrail
    line = b"x" * 500_000 + b"\n"
    with enriching(demo) as process:
        send(process, line)
        process.stdin.close()
        assert read_over_a_stop(process) == line


def test_a_reader_that_leaves_ends_the_command(demo):
    """After its reader has left, the command ends at its next line, without a word."""
    with enriching(demo) as process:
        send(process, b"first\n")
        assert process.stdout.readline() == b"first\n"
        process.stdout.close()
        send(process, b"second\n")
        assert (process.wait(PATIENCE), process.stderr.read()) == (0, b"")


def test_without_a_cache_lines_pass_and_count(tmp_path):
    """Without a cache lines leave as they are after the wait; the exit code and stderr state how many."""
    lines = b"".join(zeek(number) for number in range(600))
    done = dnstrail_bytes(tmp_path, lines, "--wait", "0.1")
    assert (done.returncode, done.stdout) == (3, lines)
    assert b"600 not asked" in done.stderr
    assert done.stderr.count(b"lines pass without names") == 1


def test_no_line_is_lost_over_a_kill_of_the_cache():
    """While the cache is killed and started anew, each line leaves once, in its order, and later ones are named."""
    address, sent, received = "192.0.2.7", [], []
    with run_dir() as folder, enriching(folder, "--wait", "600") as process:

        def receive():
            with BufferedReader(process.stdout) as lines:
                received.extend(lines)

        def step(count):
            lines = [zeek(len(sent) + number, address) for number in range(count)]
            sent.extend(lines)
            send(process, *lines)

        @contextmanager
        def serving(start):
            with started("cache", "--run-dir", folder) as cache, probe(folder, start, live=True) as publishing:
                with asker(lookups_address(folder)) as client:

                    def is_answered():
                        publishing.turn(seen(response("shop.example", f"shop.example 600 A {address}"), time.time()))
                        return client.ask("get", key=address)["ok"]

                    wait_until(is_answered, "the answer")
                yield cache

        reader = threading.Thread(target=receive)  # a pipe that nobody reads would stop the command
        reader.start()
        step(300)  # before the cache is there
        with serving("first") as cache:
            wait_until(lambda: len(received) >= 300, "the first lines")
            step(300)
            wait_until(lambda: len(received) >= 400, "lines of the first cache")
            step(300)
            cache.send_signal(signal.SIGKILL)
            cache.wait(PATIENCE)
        sender = threading.Thread(target=step, args=[300])  # the command reads little while it waits
        sender.start()
        with serving("second"):
            sender.join()
            step(300)
            process.stdin.close()
            reader.join()
        assert process.wait(PATIENCE) == 0
    begins = [line.removesuffix(b"}\n") for line in sent]
    assert len(received) == len(sent)
    assert all(line.startswith(begin) for line, begin in zip(received, begins, strict=True))
    assert all(ADDED in line for line in received[300:400] + received[-300:])


def test_the_history_names_older_lines():
    """A line of a time that the cache does not remember gets its name from the history, which it states as source."""
    then = int(time.time() - 5 * 86400) * SECOND
    line = line_of({"ts": then / SECOND, "id.resp_h": "203.0.113.7", "id.resp_p": 443})
    with resolver() as (folder, client, writer):
        history = folder.parent / "history"
        with closing(FactStore(history, FakeClock())) as store:
            relation = ("shop.example", 1, "203.0.113.7", 300)
            store.add(fact_of(0, ended=then - 10 * SECOND, process=OF_UNIT, relations=(relation,)))
            assert store.commit(progress_of(1))
        writer.send(resolved(1))
        wait_until(lambda: client.ask("get", key="n1.example")["ok"], "an answer of now")
        with started("history", "--run-dir", folder, "--folder", history) as worker:
            next(one for one in worker.stderr if '"ready"' in one)

            def is_named():
                done = dnstrail_bytes(folder, line)  # on a busy host the cache answers some by itself
                found.update(json.loads(done.stdout))
                return found.get("destination.domain") == "shop.example" and found["dnstrail"]["source"] == "history"

            found: dict = {}
            wait_until(is_named, "the history")
            asker_of_then = found["dnstrail"]["asked_by"]
            assert (asker_of_then["unit"], asker_of_then["slice"]) == ("web.service", "web.slice")
