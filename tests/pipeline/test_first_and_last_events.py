"""The first and the last events of a probe: each is applied, or counted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builders.dnstap_builders import START, WHOLE, first_writer, framed, tap
from builders.talk import answer
from dnstrail.bus.ipc import events_address, lookups_address
from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batches import TURN, Turn, decode
from live.processes import PATIENCE, run_dir, started, wait_until
from live.stopped import frozen
from live.workers import Asker, asker, open_bus

MANY, AT_ONCE = 3_000, 10


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder for sockets that the user of the workers can enter."""
    with run_dir() as folder:
        folder.parent.chmod(0o755)
        yield folder


def source(folder: Path) -> tuple[str, str]:
    """Return the options of a probe of answers that a resolver reports."""
    return "--capture", f"dnstap:{folder}/dnstap.sock"


def reports(folder: Path, many: int) -> None:
    """Report answers, each of another name."""
    writer = first_writer(folder / "dnstap.sock")
    writer.send(START)
    for first in range(0, many, AT_ONCE):
        writer.send(framed(*map(answered, range(first, first + AT_ONCE))))
    writer.socket.close()


def answered(number: int) -> bytes:
    """Return an answer in dnstap."""
    ends = {**WHOLE, "query_time_sec": int(time.time()), "response_time_sec": int(time.time())}
    return tap(response_message=answer(name=f"n{number}.example", id_=number, ttl=600), **ends)


def applied(client: Asker) -> int:
    """Return how many answers a cache has applied."""
    return client.ask("stats")["data"]["image"].get("messages", 0)


def test_a_cache_that_starts_after_its_probe_applies_the_events_from_before(folder):
    """Everything that a probe published before its cache subscribed is replayed."""
    with open_bus() as bus, started("probe", "--run-dir", folder, *source(folder)):
        subscriber, turns = bus.subscriber([events_address(folder)], [TURN]), []
        reports(folder, MANY)

        def all_are_published() -> bool:
            while (message := subscriber.receive()) is not None:
                turns.append(decode(message[1], Turn))
            return bool(turns) and turns[-1].published == {NET_PACKET_DNS: MANY}

        wait_until(all_are_published, "the events")
        with (
            started("cache", "--run-dir", folder, "--dnscache", "size=50000,unmatched=accept"),
            asker(lookups_address(folder)) as client,
        ):
            wait_until(lambda: client.ask("health")["data"]["probes"], "the cache to hear the probe")
            wait_until(lambda: applied(client) == MANY, "the events from before")
            assert client.ask("stats")["data"]["lost"]["total"] == 0
            assert client.ask("get", key="n0.example")["ok"]


def test_a_probe_states_what_a_cache_that_stands_still_does_not_receive(folder):
    """A probe that ends while its cache stands still logs how many events the cache may lack: as many, or more."""
    with (
        started("cache", "--run-dir", folder, "--dnscache", "size=50000,unmatched=accept") as cache,
        started("probe", "--run-dir", folder, *source(folder), "--subscribers", "1") as probe,
        asker(lookups_address(folder)) as client,
    ):
        wait_until(lambda: client.ask("health")["data"]["probes"], "the cache to hear the probe")
        with frozen(cache.pid):
            reports(folder, MANY)
            probe.terminate()
            _, log = probe.communicate(timeout=PATIENCE)
        lines = {line["event"]: line for line in map(json.loads, log.splitlines())}
        packets = lines["source_ended"]["packets"]
        at_most = lines["not_handed_over"]["events_at_most"]
        assert at_most <= packets
        wait_until(lambda: packets - applied(client) <= at_most, "the events that were handed over")
