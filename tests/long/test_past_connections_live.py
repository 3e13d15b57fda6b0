"""Lookups of connections on the real kernel are asked again after the cache forgot: none differs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.history.following import SegmentSpool, SpoolPosition
from dnstrail_fleet.sender.totals import RelationTotals
from live.namespaces import SENDER, Hosts, dnsmasq, hosts, live_or_skip
from live.processes import PATIENCE, dnstrail, run_dir, started, wait_until
from live.workers import Asker, asker

FIRST, SECOND = "10.99.0.71", "10.99.0.72"
NAMES = ("one.test", "two.test", "both.test", "www.test")
RECORDS = (
    f"--host-record=one.test,{FIRST},1",
    f"--host-record=two.test,{FIRST},60",
    f"--host-record=both.test,{FIRST},5",
    f"--host-record=both.test,{SECOND},5",
    "--cname=www.test,two.test,60",
)
HTTP, CLOSED, QUIC = 80, 81, 443
ROUNDS = 6
# Does what each line of its stdin states, and prints the source port: `resolve NAME`, `connect NAME PORT`,
# `request NAME PORT` (over HTTP), `datagram NAME PORT`, `close PORT`.
CLIENT = """
import socket, sys
ends = {}
for line in sys.stdin:
    what, name, *port = line.split()
    if what == "close":
        ends.pop(name).close()
        print("closed", flush=True)
        continue
    address = socket.getaddrinfo(name, None, socket.AF_INET)[0][4][0]
    if what == "resolve":
        print(address, flush=True)
        continue
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if what == "datagram" else socket.SOCK_STREAM)
    refused = end.connect_ex((address, int(port[0])))
    if refused:
        print("refused", flush=True)
        continue
    if what == "datagram":
        end.send(b"x")
    elif what == "request":
        end.send(f"GET / HTTP/1.1\\r\\nHost: {name}\\r\\n\\r\\n".encode())
    source = str(end.getsockname()[1])
    ends[source] = end
    print(source, flush=True)
"""
TIME = re.compile(r"-?\d+(\.\d+)? s\b")


class Asked(NamedTuple):
    """A request of a past time, and the data of its reply."""

    op: str
    fields: dict[str, Any]
    data: Any


class Program:
    """A client whose connections stay open until they are closed."""

    def __init__(self, network: Hosts) -> None:
        self.process = network.start_on_client(sys.executable, "-c", CLIENT)
        self.open: list[str] = []
        self.connections: list[tuple[str, int]] = []

    def does(self, *words: object) -> str:
        """Let it do something; return what it printed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(*words, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()

    def connects(self, what: str, name: str, port: int) -> None:
        """Let it connect, and keep the connection open."""
        source = self.does(what, name, port)
        assert source.isdigit(), source
        self.open.append(source)
        self.connections.append((source, port))

    def closes(self) -> None:
        """Let it close its first open connection."""
        assert self.does("close", self.open.pop(0)) == "closed"

    def ends(self) -> None:
        """Let it end with its open connections."""
        self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0
        self.open.clear()


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Two hosts: a resolver with several names for the addresses of a web server."""
    live_or_skip()
    with hosts() as both, ExitStack() as stack:
        for address in (FIRST, SECOND):
            subprocess.run(["ip", "-n", both.server, "addr", "add", f"{address}/24", "dev", "eth0"], check=True)
        (Path("/etc/netns") / both.client / "resolv.conf").write_text(f"nameserver {SENDER}\n")
        stack.enter_context(dnsmasq(both.server, SENDER, 53, "/unused.invalid/", *RECORDS))
        command = ["ip", "netns", "exec", both.server, sys.executable, "-m", "http.server", str(HTTP)]
        site = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(site.wait, PATIENCE)
        stack.callback(site.terminate)
        connect = f"import socket; socket.create_connection(('{FIRST}', {HTTP}))"
        wait_until(lambda: both.on_client(sys.executable, "-c", connect).returncode == 0, "the web server")
        wait_until(lambda: both.on_client("getent", "hosts", "www.test").returncode == 0, "the resolver")
        yield both


@contextmanager
def a_cache(folder: Path) -> Iterator[Asker]:
    """Run a cache until the block ends; yield a client once it hears the probe."""
    with (
        started("cache", "--run-dir", folder, "--dnscache", "grace=1,history=30") as process,
        asker(lookups_address(folder)) as client,
    ):
        wait_until(lambda: client.ask("health")["data"]["turns"], "the probe")
        yield client
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def listed(client: Asker, program: Program) -> set[str]:
    """Return the source ports of the open connections of a program."""
    page = client.ask("connections", process=program.process.pid)["data"]
    return {str(one["client_port"]) for one in page["connections"]}


def asked_at(at: int, programs: list[Program]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the requests about the connections of some programs at a time."""
    for program in programs:
        pid = program.process.pid
        yield "connections", {"process": pid, "at_ns": at, "rivals": True}
        for address in (FIRST, SECOND):
            for port in (HTTP, CLOSED, QUIC):
                for op in ("get", "trail"):
                    yield op, {"key": address, "process": pid, "port": port, "at_ns": at}
        for source, port in program.connections[-3:]:
            for op in ("get", "trail"):
                yield op, {"key": FIRST, "source_port": int(source), "port": port, "at_ns": at}
    for name in NAMES:
        yield "get", {"key": name, "at_ns": at}
        yield "trail", {"key": name, "port": HTTP, "at_ns": at}


def compared(value: Any) -> Any:
    """Return data of a reply without the digits of times that depend on the clock of then."""
    if isinstance(value, dict):
        return {name: compared(one) for name, one in value.items() if name != "history"}
    if isinstance(value, list):
        return [compared(one) for one in value]
    if isinstance(value, float):
        return pytest.approx(value, abs=0.01)
    return TIME.sub("T s", value) if isinstance(value, str) else value


def play(client: Asker, network: Hosts) -> Iterator[tuple[int, list[Program]]]:
    """Let three programs resolve, connect and close; yield the times at which nothing happens, with the programs."""
    programs = [Program(network) for _ in range(3)]
    one, two, three = programs
    for number in range(ROUNDS):
        one.does("resolve", "two.test")
        one.connects("request", "one.test", HTTP)
        two.connects("connect", "www.test", HTTP)
        assert two.does("connect", "both.test", CLOSED) == "refused"
        three.does("resolve", NAMES[number % 4])
        three.connects("datagram", "both.test", QUIC)
        three.connects("connect", NAMES[(number + 1) % 4], HTTP)
        if number % 2:
            for program in (one, two, three):
                program.closes()
        if number % 3 == 0:
            programs.append(Program(network))
            programs[-1].connects("connect", "both.test", HTTP)
        elif number % 3 == 1:
            programs[-1].ends()

        def settled() -> bool:
            return all(listed(client, program) == {*program.open} for program in programs)

        wait_until(settled, "the connections")
        yield time.time_ns(), programs
    for program in programs:
        if program.process.poll() is None:
            program.ends()


def test_connections_of_the_past(network):
    """`get` and `trail` of a connection, and `connections`, with the times of then: 0 differ.

    A sender of a fleet finds the relations that were used, also behind an alias.
    """
    with run_dir() as folder, ExitStack() as stack:
        history = stack.enter_context(started("history", "--run-dir", folder, "--folder", folder.parent / "history"))
        next(line for line in history.stderr if '"ready"' in line)
        stack.enter_context(started("probe", "--run-dir", folder, "--capture", "ebpf", "--evidence", "sni"))
        expected: list[Asked] = []
        with a_cache(folder) as client:

            def is_published() -> bool:
                network.on_client("getent", "hosts", "one.test")
                return bool(client.ask("stats")["data"]["cache"].get("facts_published"))

            wait_until(is_published, "facts")
            for at, programs in play(client, network):
                for op, fields in asked_at(at, programs):
                    reply = whole(client, op, fields)
                    assert "source" not in reply
                    expected.append(Asked(op, fields, reply.get("data")))
        with a_cache(folder) as client:
            again = [answered(client, one) for one in expected]
            one = next(one for one in expected if one.op == "connections" and one.data["connections"])
            at, process = f"{one.fields['at_ns'] / 1e9:.6f}", one.fields["process"]
            line = ("connections", "--at", at, "--json", "--connection", f"process={process}", "--run-dir", folder)
            printed = [json.loads(text) for text in dnstrail(*line).stdout.splitlines()]
        used = used_relations(folder.parent / "history")
    different = [
        (one.op, one.fields, one.data, data)
        for one, data in zip(expected, again, strict=True)
        if compared(one.data) != data_of(data)
    ]
    assert different == []
    ports = [other["client_port"] for other in one.data["connections"]]
    assert [(other["client_port"], other["source"]) for other in printed] == [(port, "history") for port in ports]
    bound = [one for one in expected if one.op == "trail" and is_bound(one.data)]
    lists = [one for one in expected if one.op == "connections"]
    assert len(expected) > 200
    assert len(bound) > 40
    assert sum(len(one.data["connections"]) for one in lists) > 30
    assert used >= {("one.test", "one.test", FIRST), ("www.test", "two.test", FIRST)}
    assert {one["bound"] for each in lists for one in each.data["connections"]} >= {"host", "thread", "last"}


def used_relations(history: Path) -> set[tuple[str, str, str]]:
    """Return the question, owner and target of the relations that a sender of a fleet finds used by connections."""
    spool, position, totals, is_end = SegmentSpool(history), SpoolPosition(), RelationTotals(), False
    while not is_end:
        part = spool.read(position, 1000)
        position, is_end = part.position, part.is_end
        for one in part.answers:
            totals.add(one)
        for use in part.uses:
            totals.add_use(*use)
    rows = [row for row in totals.due(time.time()) if row.used]
    assert all(row.first <= row.used <= time.time() for row in rows)
    return {(row.key.question, row.key.owner, row.key.target) for row in rows}


def is_bound(data: Any) -> bool:
    """Return whether the first trail is that of the connection."""
    return bool(data and data["trails"]) and data["trails"][0]["reasons"][0].startswith(("bound", "the connection"))


def data_of(value: Any) -> Any:
    """Return the data of a reply of the history in the form of `compared`, with its numbers."""
    if isinstance(value, dict):
        return {name: data_of(one) for name, one in value.items() if name != "history"}
    if isinstance(value, list):
        return [data_of(one) for one in value]
    return TIME.sub("T s", value) if isinstance(value, str) else value


def whole(client: Asker, op: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return a reply with the connections of all pages: a busy cache ends a page early."""
    reply = last = client.ask(op, **fields)
    while cursor := last.get("data", {}).get("next"):
        last = client.ask(op, **fields, cursor=cursor)
        reply["data"]["connections"] += last["data"]["connections"]
    if "next" in reply.get("data", {}):
        reply["data"]["next"] = ""
    return reply


def answered(client: Asker, one: Asked) -> Any:
    """Return the data of the reply of the history to a request: on a busy host the cache answers some by itself."""
    replies = []

    def is_answered() -> bool:
        replies.append(whole(client, one.op, one.fields))
        known = replies[-1].get("data", replies[-1]).get("history")
        return "source" in replies[-1] and known is not False

    wait_until(is_answered, f"the history: {one.op} {one.fields}")
    return replies[-1].get("data")
