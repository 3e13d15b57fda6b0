"""The assembly of a signature worker: its parts over one bus, which call each other while an event waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import structlog

from dnstrail.bus import Bus, Pusher
from dnstrail.bus.ipc import conflicts_address, events_address, lookups_address
from dnstrail.bus.tcp import is_tcp
from dnstrail.events import DNS_ANSWER_CONFLICT, FACT_NAMES
from dnstrail.mutes import Mutes
from dnstrail.process.config_file import ConfigFile
from dnstrail.process.terminal import json_line
from dnstrail.protocol.facts import FactFeed
from dnstrail.protocol.replays import replay_address
from dnstrail.users import User
from dnstrail_signatures.cache import ConflictFeed, PatientDns
from dnstrail_signatures.engine.time_budget import TimeBudget
from dnstrail_signatures.findings import Delivery, delivery_over
from dnstrail_signatures.group.membership import ALONE, Rejoin, join
from dnstrail_signatures.group.replays import Replays
from dnstrail_signatures.group.share import GroupShare
from dnstrail_signatures.loading.chosen import Chosen, topics_of
from dnstrail_signatures.worker import SignatureWorker

MILLISECONDS = 1000  # in a second
_PATIENCE = 10.0  # seconds for the first turn of the facts
_LOOK = 0.05  # seconds between two looks for it


@dataclass(frozen=True)
class Options:
    """The options of the command, by their names. `budget` is in milliseconds."""

    config: ConfigFile
    subscribe: tuple[str, ...]
    cache: str | None
    no_cache: bool
    cache_facts: str | None
    findings: str | None
    signatures: tuple[Path, ...]
    select: tuple[str, ...]
    budget: float
    state: Path | None
    mutes: Path | None
    group: str
    probes: int
    metrics: tuple[str, int] | None
    user: User | None
    run_dir: Path

    @property
    def publishers(self) -> tuple[str, ...]:
        """The addresses of the probes."""
        return self.subscribe or (events_address(self.run_dir),)


class WorkerAssembly:
    """The parts of one worker.

    While a lookup or a replay waits, the assembly beats, keeps the events that arrive, and renews the membership of
    the group: all on the main thread, since signatures have threads of their own, too.
    """

    def __init__(
        self, options: Options, bus: Bus, stop: threading.Event, beat: Callable[[], None], chosen: Chosen
    ) -> None:
        self._options = options
        self._bus = bus
        self._stop = stop
        self._beat = beat
        self._chosen = chosen
        cache = options.cache or lookups_address(options.run_dir)
        self._dns = None if options.no_cache else PatientDns(cache, bus=bus, beat=self._keep_alive, pause=self._pause)
        rejoin = self._rejoin()
        membership = rejoin(chosen.classes) if rejoin else None
        self._conflicts = self._conflict_feed()
        has_facts = self._conflicts is not None or (options.cache_facts is not None and not options.no_cache)
        self._facts = FactFeed(bus, cache, address=options.cache_facts) if has_facts else None
        self._subscriber = bus.subscriber(options.publishers, [])
        published = [*options.publishers, *([self._facts.address] if self._facts else [])]
        sources = [bus.requester(replay_address(address)) for address in published]
        self._share = GroupShare(membership, rejoin, Replays(bus, sources, self._await_replay, stop))

    def worker(self) -> SignatureWorker:
        """Return the worker, which is subscribed to its events."""
        options = self._options
        worker = SignatureWorker(
            self._subscriber,
            self._chosen,
            self._delivery(self._bus.pusher(options.findings) if options.findings else None),
            dns=self._dns,
            conflicts=self._conflicts,
            facts=self._facts,
            budget=TimeBudget(options.budget / MILLISECONDS),
            share=self._share,
            beat=self._keep_alive,
            probes=options.probes,
            state=options.state,
            mutes=None if options.mutes is None else Mutes(options.mutes),
        )
        topics = topics_of(self._chosen.classes)
        if facts := sorted({*FACT_NAMES}.intersection(topics)):
            if self._facts is not None:
                self._await_facts(worker, self._facts)
            else:
                reason = "no cache of this host, and no --cache-facts"
                structlog.get_logger().warning("no_facts", selected=facts, reason=reason)
        # Every signature has started: a probe waits for its subscribers before it publishes, and counts the last topic.
        for topic in topics:
            self._subscriber.subscribe(topic)
        return worker

    def _rejoin(self) -> Rejoin | None:
        if self._dns is None or self._options.group == ALONE:
            return None
        return partial(join, self._bus, self._dns.client.address, self._options.group, self._stop, self._beat)

    def _await_facts(self, worker: SignatureWorker, facts: FactFeed) -> None:
        """Wait until the cache publishes the facts of all later events, for a bounded time: it may start later."""
        deadline = time.monotonic() + _PATIENCE
        while not facts.heard and time.monotonic() < deadline and not self._stop.is_set():
            self._bus.wait(*() if worker.share.waits else (facts.subscriber,), timeout=_LOOK)
            worker.take_of_cache()
            worker.on_idle(time.monotonic())  # facts that arrive before the first turn wait for the group
            self._beat()
        if not facts.heard and not self._stop.is_set():
            structlog.get_logger().warning("facts_not_heard", address=facts.address, seconds=_PATIENCE)

    def _conflict_feed(self) -> ConflictFeed | None:
        """Subscribe to the conflicts, which a cache publishes on its own host."""
        if self._dns is None or is_tcp(self._dns.client.address):
            return None
        published = self._bus.subscriber([conflicts_address(self._dns.client.address)], [DNS_ANSWER_CONFLICT])
        return ConflictFeed(self._bus, published, self._dns.client, self._stop.is_set)

    def _delivery(self, pusher: Pusher | None) -> Delivery:
        return Delivery(_print) if pusher is None else delivery_over(pusher, self._stop, self._keep_alive)

    def _keep_alive(self) -> None:
        self._beat()
        if threading.current_thread() is threading.main_thread():
            self._share.renew(time.monotonic())

    def _pause(self, seconds: float) -> bool:
        if threading.current_thread() is threading.main_thread():
            self._subscriber.fill()
        return self._stop.wait(seconds)

    def _await_replay(self) -> None:
        self._keep_alive()
        self._subscriber.fill()


def _print(message: dict[str, Any]) -> None:
    if "eventName" in message:
        click.echo(json_line(message))
