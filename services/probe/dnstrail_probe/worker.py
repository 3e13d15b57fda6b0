"""The probe: reads a source and publishes what it yields, in turns, from its first event to its last."""

from __future__ import annotations

import secrets
import threading

import structlog

from dnstrail.bus import Publisher
from dnstrail.process.clock import Clock
from dnstrail.protocol.batches import TURN
from dnstrail.protocol.losses import LOSSES, LossReporter
from dnstrail_probe.batch_publisher import BatchPublisher
from dnstrail_probe.source import CUT_SHORT, DAMAGED, Source

HEARTBEAT = 0.1  # seconds between turns when nothing is captured
DAMAGES = (CUT_SHORT, DAMAGED)
_POLL = 0.005  # seconds for which a batch stays open at most
_PATIENCE = 10.0  # seconds for which a live source waits for its subscribers
_SETTLE = 0.05  # seconds between looks for subscribers


def run(source: Source, publisher: Publisher, clock: Clock, stop: threading.Event, expected: int) -> None:
    """Publish all events of a source until it ends or the stop signal is set.

    It waits for `expected` subscribers before its first event (live: for a bounded time). The last turn says that the
    source has ended.
    """
    log = structlog.get_logger()
    turnstile = BatchPublisher(publisher, secrets.token_hex(8), live=source.live)
    greatest = 0
    _await_subscribers(source, publisher, clock, stop, expected)
    turnstile.close_turn(_now(source, clock, greatest), source.counters)  # the start is known before its events
    turnstile.flush()
    if not source.live:
        stop.wait(HEARTBEAT)
    log.info("ready", source=source.name, subscribers=publisher.subscribers(TURN), start=turnstile.start)
    loss_log = LossReporter()
    beat = clock.monotonic()
    while not stop.is_set():
        captured = source.read(_POLL)
        if captured is None:
            break
        for topic, event in captured:
            greatest = max(greatest, event.timestamp)
            turnstile.add(topic, event)
        if captured or clock.monotonic() - beat >= HEARTBEAT:
            turnstile.close_turn(_now(source, clock, greatest), source.counters)
            _flush(turnstile, stop)
            publisher.subscribers(TURN)  # reads what has come in about them
            beat = clock.monotonic()
            loss_log.note({reason: count for reason in LOSSES if (count := source.counters[reason])}, beat)
    turnstile.close_turn(_now(source, clock, greatest), source.counters, ended=True)
    _flush(turnstile, stop)
    for damage in DAMAGES:
        if source.counters[damage]:
            log.warning(damage, source=source.name, counted="what was whole")
    log.info("source_ended", source=source.name, turns=turnstile.turn, **source.counters)


def _await_subscribers(
    source: Source, publisher: Publisher, clock: Clock, stop: threading.Event, expected: int
) -> None:
    deadline = clock.monotonic() + _PATIENCE if source.live else float("inf")
    while publisher.subscribers(TURN) < expected and clock.monotonic() < deadline and not stop.wait(_SETTLE):
        pass


def _now(source: Source, clock: Clock, greatest: int) -> int:
    return int(clock.wall() * 1e9) if source.live else greatest


def _flush(turnstile: BatchPublisher, stop: threading.Event) -> None:
    while not turnstile.flush() and not stop.is_set():
        pass
