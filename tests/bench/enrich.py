"""`dnstrail enrich` beside a cache, in processor time of both: lines of flows that differ, and that repeat."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from figures import Figure

from builders.dns_builders import CNAME, A, by_hand, record
from builders.talk import back, packed, query, there
from dnstrail.bus.ipc import lookups_address
from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import NET_PACKET_DNS, NET_TCP_CONNECT, NET_TCP_CONNECT_RESULT
from live.processes import processor_time, run_dir, started, wait_until
from live.workers import Probe, asker, probe, wait_until_seen

COUNT, PROGRAMS, SHARED = 4000, 500, 4  # connections; every fourth name shares its address with the one before
_LINES = 5  # about one connection
_IN_TURN = 20  # connections
_LATER = 500_000_000  # ns from a connection to its lines: the cache estimates the clock of such a probe
_OLD = 1.5  # seconds after which no line waits
_Named = tuple[str, Captured]


def measure(_capture: str) -> Iterator[Figure]:
    """Enrich lines about the connections that the cache knows, each of a time of its own, then of one time."""
    with run_dir() as folder, started("cache", "--run-dir", folder, "--user", "0:0") as cache:
        wait_until((folder / "lookups.sock").exists, "the cache")
        with probe(folder, live=True) as publishing:
            opened = _publish(publishing, folder)
            time.sleep(_OLD)
            begin = _costs([], folder, cache.pid)
            for title, spacing in (("each lookup differs", 1_000_000), (f"{_LINES} lines of a flow", 0)):
                lines = [_line(*one, one[1] + each * spacing) for each in range(_LINES) for one in opened]
                yield from _figures(title, len(lines), begin, _costs(lines, folder, cache.pid))


def _publish(publishing: Probe, folder: Path) -> list[tuple[int, int]]:
    """Let processes ask and connect, and return the number of each connection with its time (ns)."""
    opened = []
    with asker(lookups_address(folder)) as client:
        for first in range(0, COUNT, _IN_TURN):
            turn: list[_Named] = []
            for number in range(first, first + _IN_TURN):
                at = time.time_ns()
                turn += _events(number, at)
                opened.append((number, at + _LATER))
            wait_until_seen(client, publishing.turn(*turn))  # a cache that is behind would skip some
    return opened


def _server(number: int) -> str:
    number -= number % SHARED == 1
    return f"198.18.{number >> 8 & 127}.{number & 255}"


def _events(number: int, at: int) -> Iterator[_Named]:
    name, address, program = f"shop{number}.example", packed(_server(number)), number % PROGRAMS
    pid = 1000 + program
    process = Process(pid, f"app{program}", f"/usr/bin/app{program}", start_time=1, thread_id=pid, cgroup_id=pid)
    asking = there(port=1024 + number, socket=2 * number + 1, namespace=1, egress=True)
    alias = b"\x04edge" + query(name)[12:-4]
    answers = (
        record(b"\xc0\x0c", CNAME, alias, 300),
        record(alias, A, address, 60),
        record(alias, A, packed(f"198.19.{number >> 8 & 127}.{number & 255}"), 60),
    )
    yield NET_PACKET_DNS, Captured(at, query(name), asking, process)
    yield NET_PACKET_DNS, Captured(at + 1000, by_hand(query(name)[12:], *answers), back(asking), process)
    opened = Flow(b"", 0, address, 443, "tcp", 2 * number + 2, 1, egress=True)
    ends = Flow(packed("10.0.0.2"), 1024 + number, address, 443, "tcp", 2 * number + 2, 1, egress=True)
    to = {"dst": _server(number), "dst_port": 443}
    yield NET_TCP_CONNECT, Captured(at + 2000, b"", opened, process, to)
    yield NET_TCP_CONNECT_RESULT, Captured(at + 3000, b"", ends, process, {**to, "connected": True, "error": ""})


def _line(number: int, opened: int, at: int) -> bytes:
    """Return a line of Suricata about a connection."""
    ends = {"src_ip": "10.0.0.2", "src_port": 1024 + number, "dest_ip": _server(number), "dest_port": 443}
    tls = {"version": "TLS 1.3", "ja3s": {"hash": "907bf3ecef1c987c889946b737b43de8"}}
    event = {"timestamp": _stamp(opened), "flow_id": number, "event_type": "tls", **ends, "proto": "TCP", "tls": tls}
    return json.dumps({**event, "flow": {**ends, "start": _stamp(at)}}, separators=(",", ":")).encode() + b"\n"


def _stamp(at: int) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 10**9))
    return f"{seconds}.{at // 1000 % 10**6:06}+0000"


def _costs(lines: Sequence[bytes], folder: Path, cache: int) -> tuple[float, float]:
    """Return the processor time of `enrich` and of the cache for some lines, which all get a name."""
    before, own = processor_time(cache).used, _of_children()
    command = [sys.executable, "-m", "dnstrail_cli", "enrich", "--run-dir", str(folder)]
    done = subprocess.run(command, input=b"".join(lines), capture_output=True, check=True)
    named = done.stdout.count(b'"destination.domain"')
    assert named == len(lines), f"{named} of {len(lines)} lines have a name: {done.stderr!r}"
    return _of_children() - own, processor_time(cache).used - before


def _figures(title: str, count: int, begin: tuple[float, float], costs: tuple[float, float]) -> Iterator[Figure]:
    """Yield the costs of a line without those of the begin and end of the command."""
    enriching, answering = ((cost - first) / count for first, cost in zip(begin, costs, strict=True))
    yield Figure(f"{title}: a line, in enrich", enriching * 1e6, "us")
    yield Figure(f"{title}: a line, in the cache", answering * 1e6, "us")
    yield Figure(f"{title}: lines a second, both on one core", 1 / (enriching + answering), "/s")
    yield Figure(f"{title}: lines a second, each on its own core", 1 / max(enriching, answering), "/s")


def _of_children() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
