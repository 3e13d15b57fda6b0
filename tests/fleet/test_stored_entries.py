"""The log as the signatures read it, over a real engine: an entry comes once a store has it.

Tests of dnstrail_fleet.log.stored_entries.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from dnstrail_fleet.log import stored_entries
from dnstrail_fleet.log.contract import StreamEntry
from dnstrail_fleet.log.stored_entries import StoredEntries
from dnstrail_fleet.log.valkey_log import ValkeyLog
from live.processes import wait_until
from live.valkey_server import Engine, engine

HOSTS = ("web1", "web2")


class Parts:
    """Two hosts, a store and two readers at one engine. A dead reader is one of the last fifth of a second."""

    def __init__(self, running: Engine) -> None:
        self.hosts = [ValkeyLog(running.address(host), time.monotonic) for host in HOSTS]
        self.store = ValkeyLog(running.address("store"), time.monotonic)
        self.readers = [StoredEntries(running.address("store"), time.monotonic, dead=200) for _ in HOSTS]
        for number, reader in enumerate(self.readers):
            reader._consumer = f"reader-{number}"  # they are of one process

    def store_all(self) -> list[StreamEntry]:
        """Let the store read all entries; return them."""
        found = list[StreamEntry]()
        wait_until(lambda: found.extend(self.store.read(64)) or found, "the entries of the hosts")
        while new := self.store.read(64):
            found += new
        return found

    def read(self, count: int, reader: int = 0) -> list[bytes]:
        """Return the bodies of the next entries of a reader, which acknowledges each at once."""
        log, found = self.readers[reader], list[StreamEntry]()

        def is_read() -> bool:
            entries = log.read(64)
            log.acknowledge(entries)  # else they come again
            found.extend(entries)
            return len(found) >= count

        wait_until(is_read, f"{count} entries")
        return sorted(one.body for one in found)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """Return the parts of a log."""
    with engine(tmp_path_factory.mktemp("engine"), *HOSTS) as running:
        found = Parts(running)
        yield found
        for log in (*found.hosts, found.store, *found.readers):
            log.close()


def test_an_entry_comes_once_it_is_stored(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several entries, those come that a store acknowledged, in any order; the others wait."""
    reader = parts.readers[0]
    for number in range(4):
        parts.hosts[number % 2].append(b"%d" % number)
    assert [reader.read(64) for _ in range(3)] == [[], [], []]
    entries = sorted(parts.store_all(), key=lambda one: one.body)
    assert reader.read(64) == []
    parts.store.acknowledge(entries[2:3])
    assert parts.read(1) == [b"2"]
    parts.store.acknowledge(entries[3:])
    with monkeypatch.context() as patch:
        patch.setattr(stored_entries, "MOST_HELD", 1)  # one pending entry is asked for: those after it wait
        assert reader.read(64) == []
    assert parts.read(1) == [b"3"]
    assert reader.read(64) == []
    parts.store.acknowledge(entries[:2])
    assert parts.read(2) == [b"0", b"1"]


def test_an_entry_of_a_dead_reader_goes_to_another_one(parts: Parts) -> None:
    """A reader that read an entry and did not acknowledge it, loses it to another reader."""
    parts.hosts[0].append(b"dead")
    parts.store.acknowledge(parts.store_all())
    taken = list[StreamEntry]()
    wait_until(lambda: taken.extend(parts.readers[0].read(64)) or taken, "the entry")
    assert parts.read(1, reader=1) == [b"dead"]
    assert [one.is_again for one in taken] == [False]


def test_an_entry_that_is_stored_late_comes_again(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader lets an entry go that no store has for long: it comes again once it is stored, to one reader."""
    parts.hosts[1].append(b"late")
    wait_until(lambda: parts.readers[0].read(64) or parts.readers[0]._held, "the entry")
    entries = parts.store_all()
    wait_until(lambda: parts.readers[1].read(64) or parts.readers[1]._held, "the entry at the other reader")
    with monkeypatch.context() as patch:
        patch.setattr(parts.readers[0], "_dead", 3_600_000)  # it claims nothing back
        assert parts.readers[0].read(64) == parts.readers[0]._held == []
    parts.store.acknowledge(entries)
    assert parts.read(1, reader=1) == [b"late"]


def test_a_reader_reads_no_further_than_it_may_hold(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """While no store works, the entries stay in the engine."""
    monkeypatch.setattr(stored_entries, "MOST_HELD", 4)
    for number in range(20):
        parts.hosts[0].append(b"%02d" % number)
    for _ in range(20):
        assert parts.readers[0].read(64) == []
        assert len(parts.readers[0]._held) <= 4 + 2 * 4 * len(HOSTS)
    monkeypatch.undo()
    parts.store.acknowledge(parts.store_all())
    assert parts.read(20) == [b"%02d" % number for number in range(20)]
