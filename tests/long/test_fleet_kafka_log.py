"""The contract of the log on Kafka: librdkafka's mock cluster, which has no TLS, no users and no retention by time.

Tests of dnstrail_fleet.log.kafka_log, dnstrail_fleet.log.engine_log.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from confluent_kafka import Producer
from structlog.testing import capture_logs

from builders.fleet import bodies, entry, row, stored_rows
from dnstrail.errors import SettingsError
from dnstrail.process.clock import SystemClock
from dnstrail_fleet.log import kafka_log as module
from dnstrail_fleet.log.contract import LogUnavailableError, StreamEntry
from dnstrail_fleet.log.engine_address import KAFKA, EngineAddress
from dnstrail_fleet.log.engine_log import open_log
from dnstrail_fleet.log.kafka_log import KafkaLog
from dnstrail_fleet.row import encode_entry
from dnstrail_fleet.store.store import FleetStore
from dnstrail_fleet.store.worker import StoreWorker
from live.certificate import make_certificate
from live.kafka_cluster import KafkaCluster, kafka_cluster
from live.processes import PATIENCE, wait_until
from live.stopped import frozen

PLAIN = {"security.protocol": "plaintext", "session.timeout.ms": 6000, "heartbeat.interval.ms": 1000}
READER = """
import sys, time
sys.path[:0] = {paths!r}
from dnstrail_fleet.log.engine_address import EngineAddress
from dnstrail_fleet.log.engine_log import open_log
from dnstrail_fleet.log.kafka_log import KafkaLog

log = KafkaLog(EngineAddress(*{address!r}), time.monotonic, **{settings!r})
while not (found := log.read(100)):
    pass
print(len(found), flush=True)
while True:
    log.read(100)
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the certificate of a CA."""
    folder = tmp_path_factory.mktemp("authority")
    make_certificate(folder, "engine.test", "127.0.0.1")
    return (folder / "certificate.pem").read_text()


class Opened:
    """Logs on a cluster, which are closed after a test."""

    def __init__(self, cluster: KafkaCluster, authority: str, stack: ExitStack) -> None:
        self.cluster = cluster
        self.authority = authority
        self._stack = stack

    def address(self, user: str) -> EngineAddress:
        """Return the address of a user."""
        return EngineAddress("127.0.0.1", self.cluster.port, user, self.authority, "secret", KAFKA)

    def __call__(self, user: str) -> KafkaLog:
        """Open a log of a user."""
        return self._stack.enter_context(closing(KafkaLog(self.address(user), time.monotonic, **PLAIN)))


@pytest.fixture
def opened(authority: str) -> Iterator[Opened]:
    """Return what opens logs on a new cluster."""
    with kafka_cluster() as cluster, ExitStack() as stack:
        yield Opened(cluster, authority, stack)


def read_all(log: KafkaLog, expected: int, *, stored: bool = True) -> list[StreamEntry]:
    """Read until so many entries have arrived, and acknowledge each part."""
    found: list[StreamEntry] = []

    def read() -> bool:
        part = log.read(100)
        found.extend(part)
        if stored:
            log.acknowledge(part)
        return len(found) >= expected

    wait_until(read, f"{expected} entries")
    return found


def test_entries_of_all_hosts_are_read_once_in_a_group(opened: Opened) -> None:
    """Readers of a group share the entries, each with its host and its time; an acknowledged one is gone."""
    before = time.time() * 1000
    opened("web1").append(b"a")
    opened("web2").append(b"b")
    first = opened("store")
    entries = read_all(first, 2)
    assert bodies(entries) == [("web1", b"a"), ("web2", b"b")]
    assert all(before - 1 <= one.at <= time.time() * 1000 + 1 and not one.is_again for one in entries)
    assert set(first.lag().values()) == {(0, 0)}
    first.close()
    opened("web1").append(b"c")
    assert bodies(read_all(opened("store"), 1)) == [("web1", b"c")]


def test_a_dead_reader_s_entries_come_again(opened: Opened) -> None:
    """What a reader read before it was killed, and did not acknowledge, goes to another one."""
    sender = opened("web1")
    for body in (b"a", b"b"):
        sender.append(body)
    paths = [path for path in sys.path if path]
    words = {"paths": paths, "address": tuple(opened.address("store")), "settings": PLAIN}
    command = [sys.executable, "-c", textwrap.dedent(READER).format(**words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) >= 1
        process.kill()
    assert bodies(read_all(opened("store"), 2)) == [("web1", b"a"), ("web1", b"b")]


def test_entries_that_could_not_be_written_come_again(opened: Opened) -> None:
    """A reader that acknowledges nothing of what it read gets the same entries again, and states so."""
    opened("web1").append(b"a")
    store = opened("store")
    [entry] = read_all(store, 1, stored=False)
    [again] = read_all(store, 1)
    assert again == entry._replace(is_again=True)
    assert store.read(100) == []


def test_an_entry_for_a_later_version_waits_for_the_next_reader(opened: Opened) -> None:
    """An entry that is left out of an acknowledgement holds up nobody, and is what the next reader begins with."""
    sender, store = opened("web1"), opened("store")
    sender.append(b"later")
    [later] = read_all(store, 1, stored=False)
    store.acknowledge([])
    for number in range(20):
        sender.append(b"%d" % number)
    assert later not in read_all(store, 20)
    store.close()
    assert ("web1", b"later") in bodies(read_all(opened("store"), 1))


def test_a_store_keeps_the_rows(opened: Opened, tmp_path: Path) -> None:
    """Entries that hosts sent are stored, refused or wait; each that is stored or refused is acknowledged."""
    now = time.time_ns() // 10**9
    opened("web1").append(encode_entry(entry("web1", row(at=now), sent=now)))
    opened("web2").append(encode_entry(entry("web1", row(at=now), sent=now)))
    log = opened("store")
    with closing(FleetStore(tmp_path)) as store:
        worker = StoreWorker(log, store, SystemClock())
        wait_until(lambda: worker.step() or (worker.counters["refused"] and stored_rows(tmp_path)), "the rows")
    assert [one[5] for one in stored_rows(tmp_path)] == ["web1"]
    log.close()
    opened("web1").append(b"x")
    assert bodies(read_all(opened("store"), 1)) == [("web1", b"x")]


def test_entries_that_wait_are_bounded(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound the oldest entry that nobody acknowledges is given up, and counts as trimmed."""
    monkeypatch.setattr(module, "MOST_KEPT", 4)
    sender, store = opened("web1"), opened("store")
    found = 0
    for _ in range(40):  # to four partitions
        sender.append(b"later")
    while found < 40:
        found += len(store.read(1))
        store.acknowledge([])
    assert store.lag()["web1"].trimmed == 40 - 4 * len(store._partitions)


def test_entries_that_are_gone_unread_are_counted(opened: Opened) -> None:
    """The engine bounds each partition (here to 5 MB); each entry that it removed unread is counted."""
    sender, store = opened("web1"), opened("store")
    for _ in range(30):
        sender.append(b"x" * 900_000)
    left = 0

    def is_counted() -> bool:
        nonlocal left
        part = store.read(100)
        store.acknowledge(part)
        left += len(part)
        return store.lag().get("web1") == (0, 30 - left)

    wait_until(is_counted, "all entries, read or counted")
    assert left < 30


def test_topics_are_bounded(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Topics beyond the bound are left out and counted, and other topics are none of the fleet."""
    monkeypatch.setattr(module, "MOST_HOSTS", 2)
    for host in ("web1", "web2", "web3"):
        opened(host).append(b"x")
    other = Producer({"bootstrap.servers": f"127.0.0.1:{opened.cluster.port}", "log_level": 0})
    other.produce("another", b"x")
    assert other.flush(PATIENCE) == 0
    store = opened("store")
    with capture_logs() as logs:
        found = read_all(store, 2)
    assert [(line["event"], line["count"]) for line in logs] == [("hosts_left_out", 1)]
    assert (bodies(found), store.left_out) == ([("web1", b"x"), ("web2", b"x")], 1)


def test_an_engine_that_is_away_is_read_on(opened: Opened) -> None:
    """While it does not answer, each call states so; afterwards senders and readers go on."""
    sender, store = opened("web1"), opened("store")
    sender.append(b"a")
    read_all(store, 1)
    with frozen(opened.cluster.process.pid):
        assert reason(lambda: sender.append(b"b")) == "away"
        wait_until(lambda: reason(lambda: store.read(100)) == "away", "the reader's fault")
    wait_until(lambda: not reason(lambda: sender.append(b"c")), "the sender")
    found: list[StreamEntry] = []

    def read() -> bool:
        with suppress(LogUnavailableError):
            found.extend(part := store.read(100))
            store.acknowledge(part)
        return ("web1", b"c") in bodies(found)

    wait_until(read, "the entry")


def reason(call: Callable[[], object]) -> str:
    """Return why a call fails, or ""."""
    try:
        call()
    except LogUnavailableError as error:
        return error.reason
    return ""


def test_only_the_stated_authority_is_trusted(authority: str, tmp_path: Path) -> None:
    """An engine with the certificate of another authority is refused, and so is a file without a certificate."""
    make_certificate(tmp_path, "127.0.0.1", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    made, _ = listener.accept()
                    with suppress(OSError), context.wrap_socket(made, server_side=True) as tls:
                        tls.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        address = EngineAddress("127.0.0.1", listener.getsockname()[1], "web1", authority, "secret", KAFKA)
        with closing(open_log(address)) as log:
            assert reason(lambda: log.append(b"x")) == "certificate"
            assert reason(lambda: log.read(1)) == "certificate"
        listener.shutdown(socket.SHUT_RDWR)
    with pytest.raises(SettingsError, match="PEM"):
        KafkaLog(address._replace(authority="no certificate"), time.monotonic)
