"""The observer: the answers of dnstrail about each connection event, as soon as it arrives."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.captured import Flow
from dnstrail.client import DnsDataSource
from dnstrail.connection_names import ConnectionEnricher
from dnstrail.errors import DataNotFound, Unavailable
from dnstrail.events import DST_DNS, NET_SERVER_NAME, NET_TCP_CONNECT, Event
from dnstrail.protocol.batches import TURN, Batch, Turn, decode
from dnstrail.protocol.listener import Listener
from dnstrail.protocol.turn_follower import TurnFollower
from live.processes import wait_until

_KEPT = ("dns_root", "scope", "state", "first_seen", "last_seen", "reasons")  # of each trail
Trails = list[dict[str, Any]]
End = tuple[str, int, str, int]  # a connection: its source and destination, each an address and a port
_PATIENCE = 20.0  # seconds for a lookup on a busy machine


@dataclass(frozen=True)
class Observed:
    """A connection event and the answers about it, which came `late` ns after it.

    `source_port` is 0 where the event has none. `names` is its `dst_dns`, and `trails` are those as of the event.
    `by_time` is the first name of `trail` by the printed time of the event, its process and its port alone, and `got`
    that of `get`; "" if nothing was found.
    """

    stamp: int
    process: int
    parent: int
    mount_namespace: int
    source_port: int
    address: str
    port: int
    names: list[str]
    trails: Trails
    late: int
    by_time: str = ""
    got: str = ""


class Observer:
    """A subscriber that asks about each connection to these ports as soon as it receives the event.

    It asks again when the client has said a server name: `said` has the first name that `trail` then reports.
    """

    def __init__(self, folder: Path, ports: tuple[int, ...]) -> None:
        self.observed: list[Observed] = []
        self.said: dict[End, str] = {}
        self.reached = 0  # the wall time up to which all events were received, in ns
        self._ports = ports
        self._bus = ZmqBus()
        self._dns = DnsDataSource(lookups_address(folder), timeout=_PATIENCE, bus=self._bus)
        self._names = ConnectionEnricher(self._dns)
        self._subscriber = self._bus.subscriber([events_address(folder)], (NET_TCP_CONNECT, NET_SERVER_NAME, TURN))
        self._listener = Listener(self._subscriber)
        self._turns = TurnFollower((NET_TCP_CONNECT, NET_SERVER_NAME))

    def run(self, stop: threading.Event) -> None:
        """Handle events until the stop signal is set."""
        while not stop.is_set():
            self._bus.wait(self._subscriber, timeout=0.05)
            while (message := self._subscriber.receive()) is not None:
                self._handle(*message)
            self._listener.idle(time.monotonic())

    def ready(self) -> bool:
        """Return true once this subscriber and the cache receive turns."""
        try:
            return self.reached > 0 and self._dns.client.request("health")["data"]["probes"] > 0
        except Unavailable:
            return False

    def losses(self) -> dict[str, Any]:
        """Return the losses of all hops, and the ranks that were cut short."""
        stats = self._dns.client.request("stats")["data"]
        lost = {**stats["lost"], "rank_cut_short": stats["cache"].get("rank_cut_short", 0)}
        return {hop: counts for hop, counts in {**lost, "observer": dict(self._turns.lost)}.items() if counts}

    def close(self) -> None:
        """Close all sockets."""
        self._dns.close()
        self._bus.close(now=True)

    def _handle(self, topic: str, body: bytes) -> None:
        if topic == TURN:
            turn = decode(body, Turn)
            self._turns.turn(turn)
            self._listener.turn(turn)
            self.reached = turn.now + turn.difference
        elif topic in (NET_TCP_CONNECT, NET_SERVER_NAME):  # and no longer topic that begins with them
            self._batch(topic, decode(body, Batch))

    def _batch(self, topic: str, batch: Batch) -> None:
        self._turns.batch(topic, batch)
        mark, difference = (batch.start, batch.turn), self._turns.difference(batch.start)
        events = [Event(topic, captured, mark, batch.host, difference=difference) for captured in batch.events]
        if topic == NET_SERVER_NAME:
            self._ask_again(events)
            return
        for event in self._names.fill([event for event in events if event.arg("dst_port") in self._ports]):
            self.observed.append(self._answers(event))

    def _ask_again(self, events: list[Event]) -> None:
        for event in events:
            flow = event.captured.flow
            if flow is not None and flow.destination_port in self._ports:
                end = flow.source_text, flow.source_port, flow.destination_text, flow.destination_port
                first = self._trails(event, flow)[:1]
                self.said[end] = first[0]["dns_root"] if first else ""

    def _answers(self, event: Event) -> Observed:
        process = event.process
        return Observed(
            event.timestamp,
            process.pid,
            process.parent_pid,
            process.mount_namespace,
            event.arg("src_port") or 0,
            str(event.arg("dst")),
            event.arg("dst_port"),
            event.args[DST_DNS],
            self._trails(event, event.captured.flow),
            time.time_ns() - event.timestamp,
            next((trail["dns_root"] for trail in self._by_time("trail", event).get("trails", ())), ""),
            next(iter(self._by_time("get", event).get("dns_queries", ())), ""),
        )

    def _by_time(self, op: str, event: Event) -> dict[str, Any]:
        """Return what a person is told who knows the printed event alone; {} if nothing is found."""
        process, port = event.process_id or None, event.arg("dst_port")
        try:
            reply = self._dns.client.request(
                op, key=event.arg("dst"), at=event.timestamp / 1e9, process=process, port=port
            )
        except (DataNotFound, Unavailable):
            return {}
        return dict(reply["data"])

    def _trails(self, event: Event, flow: Flow | None) -> Trails:
        """Return the trails of the event's connection, as of the event."""
        if flow is None:
            return []
        asked = {
            "event": event.time,
            "process": event.process_id or None,
            "container": event.container_id or None,
            "client": flow.source_text or None,
            "port": flow.destination_port,
            "source_port": flow.source_port or None,
        }
        try:
            found = self._dns.client.ask("trail", after=[event.mark], key=flow.destination_text, **asked)
        except (DataNotFound, Unavailable):
            return []
        return [{name: trail[name] for name in _KEPT} for trail in found["trails"]]


@contextmanager
def observing(ports: tuple[int, ...], folder: Path) -> Iterator[Observer]:
    """Run an observer of the workers on a run-dir; yield it once it receives turns."""
    observer, stop = Observer(folder, ports), threading.Event()
    thread = threading.Thread(target=observer.run, args=(stop,))
    thread.start()
    try:
        wait_until(observer.ready, "the first turn")
        yield observer
    finally:
        stop.set()
        thread.join()
        observer.close()
