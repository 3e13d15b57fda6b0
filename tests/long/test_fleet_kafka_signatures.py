"""The log on Kafka as the signatures read it, over librdkafka's mock cluster.

Tests of dnstrail_fleet.log.stored_kafka_entries, dnstrail_fleet.log.engine_log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from builders.fleet import bodies
from dnstrail_fleet.log.contract import StreamEntry
from dnstrail_fleet.log.kafka_log import KafkaLog
from dnstrail_fleet.log.stored_kafka_entries import StoredKafkaEntries
from live.kafka_cluster import kafka_cluster
from live.kafka_entries import KafkaEntries
from live.processes import wait_until


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[KafkaEntries]:
    """Return a new cluster."""
    with kafka_cluster() as running, ExitStack() as stack:
        yield KafkaEntries(running, tmp_path, stack)


def read(log: KafkaLog) -> list[StreamEntry]:
    """Return the entries of the next read that finds any."""
    found = list[StreamEntry]()
    wait_until(lambda: found.extend(log.read(64)) or found, "entries")
    return found


def take(log: KafkaLog, count: int, *, leave: bytes = b"") -> list[tuple[str, bytes]]:
    """Read so many entries, and acknowledge all but one; return what hosts wrote."""
    found: list[StreamEntry] = []
    while len(found) < count:
        found += (part := read(log))
        log.acknowledge(one for one in part if one.body != leave)
    return bodies(found)


def paused(log: KafkaLog, count: int) -> Callable[[], bool]:
    """Return what reads, and states whether so many partitions wait for a store."""
    assert isinstance(log, StoredKafkaEntries)

    def is_paused() -> bool:
        assert log.read(64) == []
        return len(log._paused) == count

    return is_paused


def test_an_entry_comes_once_it_is_stored(cluster: KafkaEntries) -> None:
    """Each host's entries come in their order up to the first one that no store has; those of other hosts go on."""
    cluster.put("web1", b"a", b"later")
    cluster.put("web2", b"b")
    store, reader = cluster.open(KafkaLog), cluster.open(StoredKafkaEntries)
    wait_until(paused(reader, 2), "an entry of each host that waits")
    take(store, 3, leave=b"later")
    assert take(reader, 2) == [("web1", b"a"), ("web2", b"b")]
    cluster.put("web1", b"c")
    take(store, 1)
    wait_until(paused(reader, 1), "the entries behind one that no store has")
    store.close()
    take(cluster.open(KafkaLog), 2)
    assert take(reader, 2) == [("web1", b"c"), ("web1", b"later")]


def test_an_entry_that_was_not_handled_comes_again(cluster: KafkaEntries) -> None:
    """An entry that is not acknowledged comes again, though the one before was, and goes to the next reader."""
    cluster.put("web1", b"a", b"b", b"c")
    take(cluster.open(KafkaLog), 3)
    reader = cluster.open(StoredKafkaEntries)
    first = read(reader)
    reader.acknowledge(first[:1])
    assert read(reader) == [one._replace(is_again=True) for one in first[1:]]
    reader.close()
    other = cluster.open(StoredKafkaEntries)
    assert take(other, 2) == [("web1", b"b"), ("web1", b"c")]
    assert other.read(64) == []
