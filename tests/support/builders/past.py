"""Lookups that an image answers while events are played, and that the history is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
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
from dnstrail.events import DNS_TRANSACTION, EFFECTS, NET_PACKET_DNS
from dnstrail.history.fact import read_fact
from dnstrail.image import Bounds, Image, LookupResult, Trails
from dnstrail.image.apply import apply_event
from dnstrail.image.walk import Down
from dnstrail.protocol.batches import Batch, encode
from dnstrail.protocol.fact_batches import decode_facts
from dnstrail_cache.facts import captured_of
from dnstrail_history.past.reading import past_image
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
        self.store = FactStore(folder, FakeClock())
        self._transactions = self.image.begin_transactions()
        self._folder = folder
        self._turn = self._number = 0

    def play(self, topic: str, event: Captured) -> None:
        """Apply an event at its time."""
        self._number += 1
        batch, place = divmod(self._number, 500)
        for image in (self.image, self.whole):
            apply_event(image, EFFECTS[topic], event, live=True, batch=f"s/{batch}", place=place)

    def record(self, keys: Iterable[str], connections: Iterable[Connection]) -> None:
        """Ask for some keys as of the present time."""
        asked = [*asked_of(self.whole, keys, self.whole.now, connections)]
        for one in asked:
            [other] = asked_of(self.image, [one.key], one.at, [one.connection])
            self.evicting += shown(one) != shown(other)
        self.asked += asked

    def commit(self, now: int) -> None:
        """Store the transactions that have ended."""
        self._turn += 1
        self._transactions.advance(now)
        facts = [captured_of(ended) for ended in self._transactions.take()]
        _, rows = decode_facts(DNS_TRANSACTION, encode(Batch("cache", 1, 0, facts)), pytest.fail)
        for row in rows:
            assert self.store.add(read_fact(row, "", 0))
        assert self.store.commit(progress_of(self._turn))
        self.store.step()

    def differences(self, compared: Callable[[Asked], Any] | None = None) -> list[tuple[Any, ...]]:
        """Ask the history for all of it again, after the image forgot it; return what differs."""
        self.commit(LAST_TIME)
        self.store.close()
        return asked_again(self._folder, self.asked, self.image.bounds, compared or shown)


def asked_again(
    folder: Path, expected: Iterable[Asked], bounds: Bounds, compared: Callable[[Asked], Any]
) -> list[tuple[Any, ...]]:
    """Ask the history of a folder; return what differs."""
    segments, different = Segments(folder), []
    for one in expected:
        parts = []
        for with_ended in (False, True):
            with segments.opened() as opened:
                key = lookup_key(one.key) or ""
                past = past_image(opened, [key], one.at, bounds, lambda: False, with_ended=with_ended)
            parts += asked_of(past.image, [one.key], one.at, [one.connection])
        again = parts[1]._replace(found=parts[0].found)
        different += [(one, again)] if compared(again) != compared(one) else []
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
    """Play questions and answers of some processes: few names often, with pauses; ask after each `every` of them."""
    for number, (seconds, name, query, response, process) in enumerate(_exchanges(chance, count), 1):
        flow = there(socket=process.pid, namespace=1, egress=True)
        if number % 10 == 0:
            played.commit(t(seconds))
        for after, payload, way in ((0.0, query, flow), (0.01, response, back(flow))):
            played.play(NET_PACKET_DNS, _captured(t(seconds + after), payload, way, process))
        if number % every == 0:
            keys = [name, chance.choice(NAMES), chance.choice(ADDRESSES)]
            played.record(keys, [chance.choice(CLIENTS)])


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
