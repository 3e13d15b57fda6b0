"""How late others' names are while one owner floods the cache with costly answers: a real cache, over the bus."""

from __future__ import annotations

import itertools
import struct
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from figures import Figure, spread

from builders.dns_builders import CNAME, A, asked, by_hand, record
from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.captured import Captured, Flow, Process
from live.processes import run_dir, started, wait_until
from live.workers import Asker, Probe, asker

RATE, NAMES, EVERY = 800, 300, 0.05  # answers of the flood a second; names of the other owner, and seconds between two
TURN = 0.01  # seconds
LEAD = 2.0  # seconds of the flood before the first name
PATIENCE = 30.0
SIZE = 3800  # bytes of a chain
_FLOODER, _OTHER = (Process(pid, "app", "/usr/bin/app", cgroup_id=pid, start_time=10**18) for pid in (11, 22))
_LABELS = b"".join(b"\x01" + bytes([c]) for c in b"abcdefghijklmnopqrstuvwxyz0123456789") * 3
_POINTER = b"\xc0\x0c"


def measure(_capture: str) -> Iterator[Figure]:
    """Flood with each kind of costly answer in turn, each time with a cache of its own."""
    for title, answer in FLOODS.items():
        yield from _measure(title, answer)


def chain(number: int) -> bytes:
    """Return an answer of about 3.8 kB: aliases over names of 100 labels."""
    name = _fresh(number) + _LABELS[: 2 * 98] + b"\x00"
    question = asked(name, A)
    records, at, owner = [], 12 + len(question), _POINTER
    while at < SIZE:
        step = str(len(records)).encode()
        records.append(record(owner, CNAME, bytes([len(step)]) + step + struct.pack("!H", 0xC000 | 12 + name[0] + 1)))
        owner = struct.pack("!H", 0xC000 | at + 12)
        at += len(records[-1])
    return by_hand(question, *records)


def addresses(count: int, number: int) -> bytes:
    """Return an answer with this many addresses."""
    first = number * count
    data = [record(_POINTER, A, struct.pack("!I", (first + one) & 0xFFFFFFFF)) for one in range(count)]
    return by_hand(asked(_fresh(number) + b"\x05flood\x00", A), *data)


FLOODS: dict[str, Callable[[int], bytes]] = {
    "chains over names of 100 labels": chain,
    "250 addresses": partial(addresses, 250),
    "4,000 addresses": partial(addresses, 4000),
}


def _fresh(number: int) -> bytes:
    text = f"n{number}".encode()
    return bytes([len(text)]) + text


def _measure(title: str, answer: Callable[[int], bytes]) -> Iterator[Figure]:
    payloads = [answer(number) for number in range(256)]
    with run_dir() as folder, started("cache", "--run-dir", folder, "--user", "0:0") as cache:
        wait_until((folder / "lookups.sock").exists, "the cache")
        late = _flooded(folder, payloads)
        with asker(lookups_address(folder)) as client:
            stats = client.ask("stats")["data"]
        spent = _cpu(cache.pid)
    yield from spread(f"{title}: late by", sorted(late), "s", "p50", "p99")
    yield Figure(f"{title}: late by at most", max(late), "s")
    yield Figure(f"{title}: names within a second", sum(seconds <= 1 for seconds in late), f"of {NAMES}")
    yield Figure(f"{title}: answers applied", stats["image"].get("related", 0))
    yield Figure(f"{title}: answers skipped", stats["image"].get("skipped_behind", 0))
    yield Figure(f"{title}: lost on the bus", sum(stats["lost"]["bus"].values()))
    yield Figure(f"{title}: CPU of the cache", spent, "s")


def _flooded(folder: Path, payloads: list[bytes]) -> list[float]:
    """Return by how many seconds each name was found after its answer, PATIENCE if it was not."""
    sent: dict[str, float] = {}
    over = threading.Event()
    publishing = threading.Thread(target=_publish, args=(folder, payloads, sent, over))
    publishing.start()
    try:
        with asker(lookups_address(folder)) as client:
            return _found(client, sent)
    finally:
        over.set()
        publishing.join()


def _found(client: Asker, sent: dict[str, float]) -> list[float]:
    late: dict[str, float] = {}
    while len(late) < NAMES:
        waiting = [name for name in list(sent) if name not in late]
        if waiting:
            found = client.ask("get_many", keys=waiting)["data"]
            now = time.monotonic()
            for name, data in zip(waiting, found, strict=True):
                if data is not None or now - sent[name] > PATIENCE:
                    late[name] = now - sent[name]
        time.sleep(0.005)
    return [*late.values()]


def _publish(folder: Path, payloads: list[bytes], sent: dict[str, float], over: threading.Event) -> None:
    bus = ZmqBus()
    publisher = bus.publisher(events_address(folder), lossless=False)
    wait_until(lambda: publisher.subscribers("turn") >= 1, "the subscription of the cache")
    probe = Probe(publisher, "start", live=True)
    probe.turn()
    began, flooded, named = time.monotonic(), itertools.count(), 0
    number = 0
    while not over.is_set():
        now = time.monotonic()
        events = []
        while number < (now - began) * RATE:
            number = next(flooded) + 1
            events += _exchange(payloads[number % len(payloads)], number, _FLOODER)
        if named < NAMES and now - began - LEAD >= named * EVERY:
            payload = by_hand(asked(_fresh(named) + b"\x05other\x00"), record(_POINTER, A, struct.pack("!I", named)))
            events += _exchange(payload, named, _OTHER)
            sent[f"n{named}.other"] = time.monotonic()
            named += 1
        probe.turn(*events)
        over.wait(max(0.0, now + TURN - time.monotonic()))
    bus.close(now=True)


def _exchange(payload: bytes, number: int, process: Process) -> list[Captured]:
    """Return a query and its response, as the socket of a client saw them just now; each has another id."""
    payload = struct.pack("!H", number & 0xFFFF) + payload[2:]
    end = payload.index(b"\0", 12) + 5
    query = payload[:2] + b"\x01\x00\x00\x01" + bytes(6) + payload[12:end]
    client, server, socket = (bytes([10, 0, 0, 1]), 40000), (bytes([10, 0, 0, 2]), 53), process.pid
    stamp = time.time_ns()
    return [
        Captured(stamp, query, Flow(*client, *server, "udp", socket, 1, egress=True, role="client"), process),
        Captured(stamp + 1000, payload, Flow(*server, *client, "udp", socket, 1, role="client"), process),
    ]


def _cpu(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100
