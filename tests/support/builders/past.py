"""Lookups that an image answers while events are played, and that the history is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from builders.dns_builders import AAAA, CNAME, A, asked, by_hand, record, t, wire
from builders.facts import progress_of
from builders.talk import back, packed, there
from dnstrail.captured import LAST_TIME, Captured, Flow, Process
from dnstrail.connection import Connection
from dnstrail.dns.names import lookup_key
from dnstrail.events import (
    DNS_TRANSACTION,
    EFFECTS,
    NET_CONNECTION,
    NET_PACKET_DNS,
    NET_SERVER_NAME,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CLOSE,
    NET_UDP_CONNECT,
    SCHED_PROCESS_EXIT,
)
from dnstrail.history.fact import read_fact, read_stage
from dnstrail.image import Bounds, Image, LookupResult, Trails
from dnstrail.image.apply import apply_event
from dnstrail.image.open_connections import ConnectionList, OpenConnection
from dnstrail.image.walk import Down
from dnstrail.protocol.batches import Batch, encode
from dnstrail.protocol.fact_batches import decode_facts
from dnstrail.protocol.lookups import ConnectionsRequest
from dnstrail.protocol.past_lookups import PastImage
from dnstrail_cache.facts import captured_of, captured_stage
from dnstrail_history.past.answers import PastReading, answer
from dnstrail_history.past.segment_readers import SegmentReader
from dnstrail_history.past.segments import Segments
from dnstrail_history.store.store import FactStore
from live.workers import FakeClock

ANYBODY = Connection()
CLIENTS = (ANYBODY, Connection(process=71), Connection(container="c0ffee"), Connection(client="10.0.0.2"))
NAMES = tuple(f"n{number}.example" for number in range(40))
ADDRESSES = (*(f"192.0.2.{number}" for number in range(20)), *(f"2001:db8::{number:x}" for number in range(1, 6)))
PROCESSES = tuple(
    Process(pid, f"p{pid}", container_id="c0ffee" if pid % 3 == 0 else "", cgroup_id=pid % 4 + 1, start_time=pid)
    for pid in range(70, 76)
)
TTLS = (0, 5, 60, 300, 3600)


PORTS = (443, 80)


class Listed(NamedTuple):
    """The connections that were open at a time, with their rivals."""

    at: int
    connections: list[OpenConnection]


class Asked(NamedTuple):
    """A lookup of a key by somebody at a time, and what was found."""

    key: str
    connection: Connection
    at: int
    found: LookupResult | None
    trails: Trails | None


def asked_of(image: Image, keys: Iterable[str], at: int, connections: Iterable[Connection]) -> Iterator[Asked]:
    """Ask an image for the keys, as each of these clients."""
    for key in keys:
        for connection in connections:
            given = connection if connection.fields else None
            found, trails = image.get(key, now=at, connection=given), image.trails(key, connection, now=at)
            yield Asked(key, connection, at, found and _without_order_of_ties(found, key, image, at), trails)


def _without_order_of_ties(found: LookupResult, key: str, image: Image, at: int) -> LookupResult:
    """Return a result with addresses of one answer sorted: they have the order of any answer that states them."""
    last = Down(image.view(now=at), lookup_key(key) or "", len(found.dns_queries) + len(found.ip_addresses)).freshness
    tied = groupby(found.ip_addresses, lambda address: last.get(address, address))
    return replace(found, ip_addresses=[address for _, group in tied for address in sorted(group)])


class Played:
    """An image to which events are played while its transactions are stored, and lookups of it are recorded.

    `whole` is an image of the same events that evicts nothing: it is asked. `evicting` counts the lookups that `image`
    answered otherwise.
    """

    def __init__(self, folder: Path, bounds: Bounds) -> None:
        self.image, self.whole = Image(bounds), Image(replace(bounds, size=1_000_000, relations=1 << 24))
        self.asked: list[Asked] = []
        self.evicting = 0
        self.listed: list[Listed] = []
        self.store = FactStore(folder, FakeClock())
        self._transactions = self.image.begin_transactions()
        self._connections = self.whole.begin_connections()  # where answers were evicted, `image` binds to other names
        self._folder = folder
        self._turn = self._number = 0

    def play(self, topic: str, event: Captured) -> None:
        """Apply an event at its time."""
        self._number += 1
        batch, place = divmod(self._number, 500)
        name = f"s/{batch}" if topic == NET_PACKET_DNS else f"s/{topic}/{batch}"
        for image in (self.image, self.whole):
            apply_event(image, EFFECTS[topic], event, live=True, batch=name, place=place)
            image.advance(event.timestamp)

    def record(self, keys: Iterable[str], connections: Iterable[Connection]) -> None:
        """Ask for some keys as of the present time."""
        asked = [*asked_of(self.whole, keys, self.whole.now, connections)]
        for one in asked:
            [other] = asked_of(self.image, [one.key], one.at, [one.connection])
            self.evicting += shown(one) != shown(other)
        self.asked += asked

    def list_connections(self) -> None:
        """List the connections that are open at the present time."""
        image = self.whole
        listed = ConnectionList(image, image.now, None, 0, rivals=True)
        self.listed.append(Listed(image.now, [*map(listed.shown, image.binder.bindings.open_after(0))]))

    def commit(self, now: int) -> None:
        """Store the transactions that have ended, and the stages of connections."""
        self._turn += 1
        self._transactions.advance(now)
        self._connections.advance(now)
        facts = [captured_of(ended) for ended in self._transactions.take()]
        _, rows = decode_facts(DNS_TRANSACTION, encode(Batch("cache", 1, 0, facts)), pytest.fail)
        for row in rows:
            assert self.store.add(read_fact(row, "", 0))
        stages = [captured_stage(stage) for stage in self._connections.take()]
        _, rows = decode_facts(NET_CONNECTION, encode(Batch("cache", 1, 0, stages)), pytest.fail)
        for row in rows:
            assert self.store.add(read_stage(row, "", 0))
        assert self.store.commit(progress_of(self._turn))
        self.store.step()

    def differences(self, compared: Callable[[Asked], Any] | None = None) -> list[tuple[Any, ...]]:
        """Ask the history for all of it again, after the image forgot it; return what differs."""
        self.commit(LAST_TIME)
        self.store.close()
        different = asked_again(self._folder, self.asked, self.image.bounds, compared or shown)
        return different + listed_again(self._folder, self.listed, self.image.bounds, rivals=compared is None)


def asked_again(
    folder: Path, expected: Iterable[Asked], bounds: Bounds, compared: Callable[[Asked], Any]
) -> list[tuple[Any, ...]]:
    """Ask the history of a folder; return what differs."""
    segments, different = Segments(folder), []
    for one in expected:
        parts = []
        for with_ended in (False, True):
            with segments.opened() as opened:
                reading = reading_of(opened, one.at, bounds)
                past = reading.asked([one.key], one.connection, with_ended=with_ended)
            parts += asked_of(past.image, [one.key], one.at, [one.connection])
        again = parts[1]._replace(found=parts[0].found)
        different += [(one, again)] if compared(again) != compared(one) else []
    segments.close()
    assert segments.unreadable == 0
    return different


def reading_of(opened: Sequence[SegmentReader], at: int, bounds: Bounds) -> PastReading:
    """Return the reading of a lookup of a time without a bound on its own time."""
    return PastReading(opened, at, PastImage(bounds.grace, bounds.history), lambda: False)


def listed_again(folder: Path, expected: Iterable[Listed], bounds: Bounds, *, rivals: bool) -> list[tuple[Any, ...]]:
    """List the connections of a folder again, page by page, with their rivals or without; return what differs."""
    segments, different = Segments(folder), []
    for one in expected:
        found, cursor = [], ""
        while True:
            with segments.opened() as opened:
                page, _ = answer(
                    ConnectionsRequest(at_ns=one.at, rivals=rivals, cursor=cursor), reading_of(opened, one.at, bounds)
                )
            found += page.connections
            cursor = page.next
            if not cursor:
                break
        then = one.connections if rivals else [replace(each, rivals=[]) for each in one.connections]
        different += [] if found == then else [(one, found)]
    segments.close()
    assert segments.unreadable == 0
    return different


def shown(asked: Asked) -> tuple[Any, ...]:
    """Return what a lookup found, without what the history states otherwise: whether all is known."""
    found = None if asked.found is None else replace(asked.found, history=True)
    return found, None if asked.trails is None else replace(asked.trails, history=True)


def ranked(asked: Asked) -> tuple[Any, ...]:
    """Return what a lookup found, and the paths of its trails in their order."""
    found, trails = shown(asked)
    paths = [(one.dns_root, one.state, one.scope, one.last_seen) for one in trails.trails] if trails else []
    return found, paths


def play_generated(played: Played, chance: Random, count: int, every: int = 5) -> None:
    """Play questions and answers of some processes: few names often, with pauses; ask after each `every` of them.

    Some answers are followed by connections.
    """
    connecting = Connecting(played, chance)
    for number, (seconds, name, query, response, process) in enumerate(_exchanges(chance, count), 1):
        flow = there(socket=process.pid, namespace=1, egress=True)
        connecting.until(seconds)
        if number % 10 == 0:
            played.commit(t(seconds))
        for after, payload, way in ((0.0, query, flow), (0.01, response, back(flow))):
            played.play(NET_PACKET_DNS, _captured(t(seconds + after), payload, way, process))
        connecting.follow(seconds + 0.01, process, name)
        if number % every == 0:
            keys = [name, chance.choice(NAMES), chance.choice(ADDRESSES)]
            played.record(keys, [chance.choice(CLIENTS)])
            for address, connection in connecting.described():
                played.record([address], [connection])
        if number % (4 * every) == 0:
            played.list_connections()


class Connecting:
    """Connections after answers: some at once, some later, some to no address of an answer. They end at some time."""

    def __init__(self, played: Played, chance: Random) -> None:
        self._played = played
        self._chance = chance
        self._socket = 1000
        self._transport = ""
        self._events: list[tuple[float, int, str, Captured]] = []  # still to come
        self._described: list[tuple[str, Connection]] = []

    def until(self, seconds: float) -> None:
        """Play what happens before a time."""
        self._events.sort(key=itemgetter(0, 1))
        while self._events and self._events[0][0] < seconds:
            _, _, topic, event = self._events.pop(0)
            self._played.play(topic, event)

    def described(self) -> list[tuple[str, Connection]]:
        """Return some of the last connections: each address, and what is known of the client."""
        return self._chance.sample(self._described[-8:], min(2, len(self._described)))

    def follow(self, seconds: float, process: Process, name: str) -> None:
        """Let a process, or another one, connect after an answer to a name."""
        chance, image = self._chance, self._played.whole
        for _ in range(chance.choice([0, 1, 1, 2, 3])):
            found = image.get(name, now=image.now)
            known = found.ip_addresses if found is not None else []
            address = chance.choice(known) if known and chance.random() < 0.8 else chance.choice(ADDRESSES)
            who = process if chance.random() < 0.8 else chance.choice(PROCESSES)
            self._connect(seconds + chance.choice([0.001, 0.02, 0.05, 0.15, 0.9, 3]), address, who)
        self.until(seconds + 0.1)

    def _connect(self, seconds: float, address: str, process: Process) -> None:
        chance = self._chance
        before, self._transport = self._transport, "udp" if chance.random() < 0.2 else "tcp"
        self._socket += (before, self._transport) != ("udp", "udp")  # else the socket connects again
        if chance.random() < 0.05:
            self._add(seconds + chance.choice([1, 30]), SCHED_PROCESS_EXIT, None, process)
        transport = self._transport
        source_port, port = 1024 + self._socket % 60000, chance.choice(PORTS)
        away = Flow(b"", 0, packed(address), port, transport, self._socket, 1, egress=True)
        known = replace(away, source=packed("10.0.0.2"), source_port=source_port)
        to = {"dst": address, "dst_port": port}
        end = seconds + chance.choice([0.5, 3, 60, 900, 1e5])
        if transport == "udp":
            self._add(seconds, NET_UDP_CONNECT, known, process, **to)
            self._add(end, NET_UDP_CLOSE, known, process, **to)
        else:
            connected = chance.random() < 0.8
            error = "" if connected else "ECONNREFUSED"
            self._add(seconds, NET_TCP_CONNECT, away, process, **to)
            self._add(seconds + 0.03, NET_TCP_CONNECT_RESULT, known, process, **to, connected=connected, error=error)
            if connected and chance.random() < 0.4:
                evidence = chance.choice(["sni", "host"])
                said = {"server_name": chance.choice(NAMES[:5]), "evidence": evidence}
                self._add(seconds + 0.04, NET_SERVER_NAME, known, process, **said)
            if connected:
                self._add(end, NET_TCP_CLOSE, known, process, **to, bytes_sent=1, bytes_received=2)
        own = Connection(process=process.pid, port=port)
        self._described += [(address, own), (address, Connection(source_port=source_port)), (address, own)]

    def _add(self, seconds: float, topic: str, flow: Flow | None, process: Process, **args: Any) -> None:
        event = Captured(t(seconds), b"", flow, process, args)
        self._events.append((seconds, len(self._events), topic, event))


def _captured(stamp: int, payload: bytes, flow: Flow, process: Process) -> Captured:
    return Captured(stamp, payload, flow, process, {})


def _exchanges(chance: Random, count: int) -> Iterator[tuple[float, str, bytes, bytes, Process]]:
    seconds = 0.0
    for number in range(count):
        seconds += 400 if chance.random() < 0.02 else chance.choice([0.2, 1, 5, 30])
        name = NAMES[min(int(chance.expovariate(0.3)), len(NAMES) - 1)]
        stable = Random(f"{name} {int(seconds) // 3000}")  # its answers change now and then
        owner, records = name, []
        for target in stable.sample(NAMES, stable.choice([0, 0, 1, 2])):
            records.append(record(wire(owner), CNAME, wire(target), chance.choice(TTLS)))
            owner = target
        addresses = stable.sample(ADDRESSES, stable.choice([0, 1, 1, 2, 4]))
        chance.shuffle(addresses)
        for address in addresses:
            kind = AAAA if ":" in address else A
            records.append(record(wire(owner), kind, packed(address), chance.choice(TTLS)))
        head, question = (number & 0xFFFF).to_bytes(2, "big"), asked(wire(name), A, 1)
        query, response = by_hand(question, flags=0x0100), by_hand(question, *records)
        yield seconds, name, head + query[2:], head + response[2:], chance.choice(PROCESSES)
