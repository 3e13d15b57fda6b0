"""Transactions as users receive them: in a run, by a signature, and from a running service; real processes."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP

from builders.capture_files import RAW_IPV4, pcap, udp
from builders.dnstap_builders import Writer
from builders.talk import answer, query
from dnstrail.bus.ipc import lookups_address
from live.namespaces import CLIENT, GOOGLE, SERVER, Hosts
from live.pipelines import Run, pipeline
from live.processes import PATIENCE, dnstrail, run_dir, started, wait_until
from live.talking import TALK, await_collection
from live.tapped_resolver import resolved, resolver
from live.workers import Asker, asker, response
from live.written_rows import written

ASKER, RESOLVER = ("192.0.2.100", 40000), ("192.0.2.53", 53)
SECOND = 1_793_534_400
PACKETS = (
    (0, ASKER, RESOLVER, query("a.example")),
    (20_000, RESOLVER, ASKER, answer("192.0.2.1", name="a.example")),
    (30_000, ASKER, RESOLVER, query("none.example", id_=2)),
    (40_000, RESOLVER, ASKER, response("none.example", id_=2, rcode="NXDOMAIN")),
    (50_000, ASKER, RESOLVER, query("gone.example", id_=3)),
    (250_000, ASKER, RESOLVER, query("gone.example", id_=3)),
)
EXPECTED = [
    ("a.example", "answered", 1, 20_000_000),
    ("none.example", "nxdomain", 1, 10_000_000),
    ("gone.example", "unanswered", 2, 30_200_000_000),
]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Return a capture with an answer, an NXDOMAIN, and a question that is repeated and never answered."""
    path = tmp_path / "transactions.pcap"
    records = ((SECOND, at, udp(source, target, payload)) for at, source, target, payload in PACKETS)
    path.write_bytes(pcap(*records, linktype=RAW_IPV4))
    return path


def args_of(event: dict) -> dict:
    """Return the arguments of an event by name."""
    return {arg["name"]: arg["value"] for arg in event["args"]}


def stated(transaction: dict) -> tuple:
    """Return name, outcome, tries and duration of a transaction."""
    return tuple(transaction.get(name) for name in ("name", "outcome", "tries", "waited"))


def test_a_run_shows_the_transactions_of_a_file(capture):
    """Each question of a capture file is one event when it has ended; at the end of the file nothing waits."""
    with run_dir() as folder:
        done = dnstrail("replay", capture, "--run-dir", folder, "--events", "dns_transaction", "--output", "json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(event["eventName"], event["eventId"]) for event in events} == {("dns_transaction", "7007")}
    assert [stated(args_of(event)) for event in events] == EXPECTED
    assert [event["timestamp"] - SECOND * 10**9 for event in events] == [20_000_000, 40_000_000, 30_250_000_000]


SIGNATURE = """
from dnstrail import EventSelector, Signature, SignatureMetadata

class Failed(Signature):
    metadata = SignatureMetadata(id="T-1", version="1", name="Failed", event_name="FAILED")
    selected_events = (EventSelector(name="dns_transaction"),)

    def on_event(self, event):
        dns = self.ctx.get_data_source("tracee", "dns")
        if event.arg("outcome") == "answered":
            found = dns.get(event.arg("name"))["ip_addresses"]
            self.report(event, name=event.arg("name"), found=found)
        else:
            self.report(event, name=event.arg("name"), outcome=event.arg("outcome"))
"""


def test_a_signature_receives_the_transactions_of_a_file(capture):
    """A signature selects transactions as other events; a lookup answers after the event that ended one."""
    with run_dir() as folder:
        file = folder.parent / "failed.py"
        file.write_text(SIGNATURE)
        file.chmod(0o644)
        options = ("--signatures", file, "--events", "FAILED", "--output", "json")
        done = dnstrail("replay", capture, "--run-dir", folder, *options)
    assert done.returncode == 0, done.stderr
    found = [args_of(json.loads(line)) for line in done.stdout.splitlines()]
    assert [(one["name"], one.get("found"), one.get("outcome")) for one in found] == [
        ("a.example", ["192.0.2.1"], None),
        ("none.example", None, "nxdomain"),
        ("gone.example", None, "unanswered"),
    ]
    assert len({one["triggeredBy"]["args"][0]["value"] for one in found}) == 3, "each has an identity"


def test_a_run_shows_the_connections_of_a_file(tmp_path):
    """A capture file states attempts alone: each has its name, and ends with the file."""
    path = tmp_path / "connections.pcap"
    packets = [(at, udp(*rest)) for at, *rest in PACKETS]
    attempt = IP(src=ASKER[0], dst="192.0.2.1") / TCP(sport=50000, dport=443, flags="S")
    records = sorted([*packets, (25_000, bytes(attempt))])
    path.write_bytes(pcap(*((SECOND, at, record) for at, record in records), linktype=RAW_IPV4))
    with run_dir() as folder:
        done = dnstrail("replay", path, "--run-dir", folder, "--events", "net_connection", "--output", "json")
    assert done.returncode == 0, done.stderr
    opened, ended = [json.loads(line) for line in done.stdout.splitlines()]
    assert (opened["eventName"], opened["eventId"]) == ("net_connection", "7008")
    receiver = {"src": ASKER[0], "src_port": 50000, "dst": "192.0.2.1", "dst_port": 443, "transport": "tcp"}
    known = receiver | {"name": "a.example", "bound": "last"}
    assert args_of(opened) == known | {"id": args_of(opened)["id"], "stage": "opened"}
    own = {"stage": "end", "why": "probe gone", "lasted": 225_000_000}
    assert args_of(ended) == known | own | {"id": args_of(opened)["id"].removesuffix("opened") + "end"}
    assert [one["timestamp"] - SECOND * 10**9 for one in (opened, ended)] == [25_000_000, 250_000_000]


def test_transactions_need_a_cache():
    """A run without a cache refuses to show transactions, and names the reason."""
    done = dnstrail("--capture", "demo", "--events", "dns_transaction", "--dnscache", "none")
    assert (done.returncode, "the cache publishes it" in done.stderr) == (2, True)


def test_a_worker_without_a_cache_says_that_it_receives_no_facts():
    """A worker without a cache of its host warns if a signature selects transactions: it receives none."""
    with run_dir() as folder:
        file = folder.parent / "failed.py"
        file.write_text(SIGNATURE)
        file.chmod(0o644)
        arguments = ("signatures", "--signatures", str(file), "--select", "FAILED", "--cache", "none")
        with written(folder, *arguments) as worker:
            [warning] = [line for line in worker.errors.splitlines() if "no_facts" in line]
    assert "dns_transaction" in warning


def test_the_log_of_a_service_follows_its_transactions():
    """A resolver that writes dnstap, a cache as a service, and two logs: a row for each question, filtered by one."""
    with resolver() as (folder, client, writer):
        assert "facts_published" not in client.ask("stats")["data"]["cache"]
        follow = ("log", "--follow", "--json")
        with written(folder, *follow) as log, written(folder, *follow, "--outcome", "nxdomain") as failed:
            for number in range(23):
                writer.send(resolved(number))
            wait_until(lambda: len(log.rows) >= 23 and len(failed.rows) >= 12, "the transactions")
        assert [row["name"] for row in log.rows] == [f"n{number}.example" for number in range(23)]
        assert {row["outcome"] for row in failed.rows} == {"nxdomain"}
        assert len({row["id"] for row in log.rows}) == 23
        [first] = log.named("n1.example")
        assert first["relations"] == [["n1.example", "A", "192.0.2.7", 60]]
        assert (first["src"], first["dst"], first["type"], first["matched"]) == ("192.0.2.101", "192.0.2.53", "A", True)
        assert abs(first["timestamp"] / 1e9 - time.time()) < PATIENCE
        assert client.ask("stats")["data"]["cache"]["facts_published"] == 23


@contextmanager
def answering(writer: Writer) -> Iterator[Callable[[], int]]:
    """Answer one question after another; yield a function that ends this, and returns the last one's number."""
    numbers, ends = count(), threading.Event()

    def answer_on() -> None:
        while not ends.wait(0.01):
            writer.send(resolved(next(numbers)))

    def end() -> int:
        ends.set()
        thread.join()
        return next(numbers) - 1

    thread = threading.Thread(target=answer_on)
    thread.start()
    try:
        yield end
    finally:
        ends.set()
        thread.join()


def test_the_log_goes_on_from_the_history_to_the_present():
    """While a resolver answers, a log of the history and of what follows has each question once, in order."""
    with resolver() as (folder, _, writer):
        history = folder.parent / "history"
        with started("history", "--folder", history, "--run-dir", folder):
            wait_until(lambda: [*history.glob("lock")], "the history")
            with answering(writer) as end:
                wait_until(lambda: dnstrail("log", "--folder", history, "--json").stdout.count("\n") > 20, "the past")
                with written(folder, "log", "--folder", str(history), "--last", "1000", "--follow", "--json") as log:
                    first = len(log.rows)
                    wait_until(lambda: len(log.rows) > first + 100, "the present")
                    last = end()
                    wait_until(lambda: log.named(f"n{last}.example"), "the last")
        assert "missing" not in log.errors
        found = [int(row["name"].removeprefix("n").removesuffix(".example")) for row in log.rows]
        assert found == [*range(found[0], last + 1)]
        assert len(found) > 120


def test_two_signature_workers_share_the_transactions():
    """The findings of two workers of one group have one id for each transaction, and none is missing."""
    with resolver() as (folder, client, writer):
        file = folder.parent / "failed.py"
        file.write_text(SIGNATURE)
        file.chmod(0o644)
        arguments = ("signatures", "--signatures", str(file), "--select", "FAILED")
        with written(folder, *arguments) as first, written(folder, *arguments) as second:
            wait_until(lambda: _members(client) == 2, "the group")
            numbers = count()
            # until the members know each other, one of them may handle all
            wait_until(lambda: writer.send(resolved(next(numbers))) or (first.rows and second.rows), "both")
            sent = next(numbers)
            expected = sorted(f"n{number}.example" for number in range(sent))

            def names() -> list[str]:
                found = {row["findingId"]: args_of(row)["name"] for row in first.rows + second.rows}
                return sorted(found.values())

            wait_until(lambda: len(names()) >= sent, "the findings")
            assert names() == expected


def _members(client: Asker) -> int:
    return sum(len(group["members"]) for group in client.ask("stats")["data"]["groups"].values())


def own(rows: list[dict]) -> list[dict]:
    """Return the rows about processes that this one started: other tests ask and connect at the same time."""
    return [row for row in rows if row["parent_process_id"] == os.getpid()]


def test_the_log_of_a_host_has_the_process_of_a_client(network: Hosts):
    """On the real kernel: a question has the process that asked, and how long it waited; a connection has its end."""
    with (
        run_dir() as folder,
        started("cache", "--run-dir", folder),
        started("probe", "--run-dir", folder, "--capture", "ebpf"),
    ):
        with asker(lookups_address(folder)) as client:
            wait_until(lambda: client.ask("health")["data"]["turns"], "the probe")
        with written(folder, "log", "--follow", "--json") as log:
            assert network.on_client("ping", "-c1", "-W60", "google.com").returncode == 0
            wait_until(lambda: [row for row in own(log.named("google.com")) if row["type"] == "A"], "the client")
        with written(folder, "log", "--follow", "--connections", "--json", "--address", SERVER) as connections:
            await_collection(network, lambda: own(connections.rows))
        assert {(row["stage"], row["why"], row["dst"], row["dst_port"]) for row in own(connections.rows)} == {
            ("end", "closed", SERVER, 53)
        }
        row = next(row for row in own(log.named("google.com")) if row["type"] == "A")
        assert (row["process_name"], row["executable"]) == ("ping", "/usr/bin/ping")
        assert (row["src"], row["dst"], row["hop"]) == (CLIENT, SERVER, "client")
        assert (row["outcome"], row["relations"][0][2]) == ("answered", GOOGLE)
        assert 0 < row["waited"] < PATIENCE * 1e9


def stages_of(run: Run, pid: int) -> list[dict]:
    """Return the arguments of each stage of the connections of a process."""
    return [args_of(event) for event in run.named("net_connection") if event["processId"] == pid]


def ended(run: Run, pid: int) -> list[dict]:
    """Wait for the end of the connection of a process, and return its stages."""
    wait_until(lambda: any(one["stage"] == "end" for one in stages_of(run, pid)), "the end")
    return stages_of(run, pid)


def test_the_stages_of_real_connections(network: Hosts):
    """On the real kernel: a connection that is closed, one whose process is killed, and one that is refused."""
    with pipeline("--capture", "ebpf", "--output", "json", "--events", "net_connection") as run:
        await_collection(network, lambda: run.named("net_connection"))
        talk = partial(network.start_on_client, sys.executable, "-c", TALK)
        with talk("closed.google.com", "53") as closes:
            sent, received = map(int, closes.stdout.readline().split())
            closes.stdin.write("close\n")
            closes.stdin.flush()
            opened, result, end = ended(run, closes.pid)
        with talk("killed.google.com", "53") as killed:
            assert killed.stdout.readline().split() == [str(sent), str(received)]
            killed.kill()
            assert [one["stage"] for one in ended(run, killed.pid)] == ["opened", "result", "end"]
            of_killed = stages_of(run, killed.pid)[-1]
        with talk("refused.google.com", "81") as refused:
            assert refused.wait(PATIENCE) == 0
            wait_until(lambda: len(stages_of(run, refused.pid)) == 2, "the refusal")
        assert (opened["name"], opened["bound"], opened["dst"]) == ("closed.google.com", "thread", SERVER)
        assert (opened["dst_port"], opened["transport"], "src" in opened) == (53, "tcp", False)
        assert (result["connected"], result["src"], result["socket"]) == (True, CLIENT, opened["socket"])
        assert (end["why"], end["bytes_sent"], end["bytes_received"]) == ("closed", sent, received)
        assert 0 < result["lasted"] < end["lasted"] < PATIENCE * 1e9
        assert [one["id"].rpartition("/")[0] for one in (result, end)] == [opened["id"].rpartition("/")[0]] * 2
        counted = of_killed["bytes_sent"], of_killed["bytes_received"]
        assert (of_killed["why"], of_killed["name"], *counted) == ("process ended", "killed.google.com", sent, received)
        [_, failed] = stages_of(run, refused.pid)
        assert (failed["stage"], failed["connected"], failed["error"]) == ("result", False, "ECONNREFUSED")
        assert all(abs(one["timestamp"] / 1e9 - time.time()) < PATIENCE for one in run.named("net_connection"))
        assert run.stats()["cache"]["facts_published"] >= 8
