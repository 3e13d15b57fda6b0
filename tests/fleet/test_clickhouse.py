"""A ClickHouse server that is away, refuses, is another one or hostile: one error each, and nothing is lost.

Tests of dnstrail_fleet.clickhouse.address, dnstrail_fleet.clickhouse.client, dnstrail_fleet.clickhouse.schema.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from builders.fleet import NOON, FakeLog, entry, received, row
from dnstrail.errors import SettingsError
from dnstrail_fleet.clickhouse import client as module
from dnstrail_fleet.clickhouse.address import ClickHouseAddress, parse_clickhouse
from dnstrail_fleet.clickhouse.client import ClickHouseClient
from dnstrail_fleet.clickhouse.reading import ClickHouseReader
from dnstrail_fleet.clickhouse.schema import VERSIONS, make_tables
from dnstrail_fleet.clickhouse.store import ClickHouseStore
from dnstrail_fleet.lookups.contract import StoreUnavailableError
from dnstrail_fleet.row import DAY, encode_entry
from dnstrail_fleet.store.worker import StoreWorker
from live.certificate import make_certificate
from live.clickhouse_server import ClickHouse, ClickHouseRows, clickhouse
from live.fleet_processes import fleet
from live.fleet_rows import WANTED
from live.ports import free_port
from live.processes import wait_until
from live.workers import FakeClock


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """Return a server with ClickHouse's engine."""
    if not os.environ.get(WANTED):
        pytest.skip("make test-clickhouse runs these")
    with clickhouse(tmp_path_factory.mktemp("clickhouse")) as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a certificate, its key, and a password."""
    found = tmp_path_factory.mktemp("files")
    make_certificate(found, "clickhouse.test", "127.0.0.1")
    (found / "pass").write_text("secret\n")
    return found


@pytest.fixture
def files(folder: Path) -> str:
    """Return the files of an address."""
    return f",ca={folder}/certificate.pem,password={folder}/pass"


def test_an_address_names_server_database_and_files(files: str) -> None:
    """The port is that of HTTPS unless another one is given, and no text of the address shows the password."""
    found = parse_clickhouse(f"clickhouses://store@[::1]/tenant_1{files}")
    assert (found.host, found.port, found.user, found.database) == ("::1", 8443, "store", "tenant_1")
    assert found.password == "secret"
    assert repr(found) == "clickhouses://store@[::1]:8443/tenant_1"


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("clickhouse://store@host/d", "needs TLS"),
        ("http://store@host/d", "needs TLS"),
        ("clickhouses://store:secret@host/d", "name its file"),
        ("clickhouses://store@host", "user and database"),
        ("clickhouses://host/d", "user and database"),
        ("clickhouses://store@host/d;DROP", "user and database"),
        ("clickhouses://store@host/d?user=admin", "write clickhouses"),
        ("clickhouses://store@host:port/d", "write clickhouses"),
        ("clickhouses://store@/d", "write clickhouses"),
    ],
)
def test_a_bad_address_is_refused(files: str, address: str, text: str) -> None:
    """An address without TLS, with a password, or with another form is refused with the remedy."""
    with pytest.raises(SettingsError, match=text):
        parse_clickhouse(address + files)


def test_an_address_needs_its_files(files: str) -> None:
    """The CA and the password come from files alone."""
    with pytest.raises(SettingsError, match="ca and password"):
        parse_clickhouse("clickhouses://store@host/d" + files.partition(",password")[0])


@contextmanager
def replying(address: ClickHouseAddress, folder: Path, reply: bytes, *, last: bytes = b"") -> Iterator[None]:
    """Send a reply to each request, and then `last` without end."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")

    def serve() -> None:
        with suppress(OSError), context.wrap_socket(listener.accept()[0], server_side=True) as peer:
            peer.recv(1 << 16)
            peer.sendall(reply)
            while last:
                peer.sendall(last)
            peer.recv(1)

    with socket.create_server((address.host, address.port)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("reply", "last", "reason"),
    [
        (b"SSH-2.0-\nOpenSSH\r\n", b"", "away"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"[1]\n" * 1000, "away"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", b"[1]\n" * 1000, "away"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", b"", "reply"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n["a"]\n\n', b"", "reply"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]\n", b"", "reply"),
        (b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", b"", "refused"),
        (b"HTTP/1.1 500 X\r\nX-ClickHouse-Exception-Code: 243\r\nContent-Length: 2\r\n\r\n\xff\xff", b"", "full"),
    ],
)
def test_a_hostile_reply_is_bounded(
    files: str, folder: Path, monkeypatch: pytest.MonkeyPatch, reply: bytes, last: bytes, reason: str
) -> None:
    """What is no reply of ClickHouse, or too long, is an error of one line, and the connection is given up."""
    monkeypatch.setattr(module, "MOST_REPLY", 1 << 18)
    address = parse_clickhouse(f"clickhouses://store@127.0.0.1:{free_port('127.0.0.1')}/d{files}")
    client = ClickHouseClient(address)
    with replying(address, folder, reply, last=last), pytest.raises(StoreUnavailableError) as caught:
        client.select("SELECT 1", tuple[int])
    assert not client.is_open
    assert caught.value.reason == f"clickhouse-{reason}"
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_statement_ends_in_time(files: str, folder: Path) -> None:
    """A server that sends a byte now and then does not keep a lookup."""
    address = parse_clickhouse(f"clickhouses://store@127.0.0.1:{free_port('127.0.0.1')}/d{files}")
    client, reply = ClickHouseClient(address, 0.1), b"HTTP/1.1 200 OK\r\n\r\n"
    with replying(address, folder, reply, last=b" "), pytest.raises(StoreUnavailableError, match="timed out"):
        client.select("SELECT 1", tuple[int])


def test_only_the_named_authority_is_trusted(files: str, tmp_path: Path) -> None:
    """A server with another certificate receives no password, and the error names the remedy."""
    address = parse_clickhouse(f"clickhouses://store@127.0.0.1:{free_port('127.0.0.1')}/d{files}")
    (tmp_path / "other").mkdir()
    make_certificate(tmp_path / "other", "clickhouse.test", "127.0.0.1")
    client = ClickHouseClient(address)
    with replying(address, tmp_path / "other", b""), pytest.raises(StoreUnavailableError) as caught:
        client.change("SELECT 1")
    assert caught.value.reason == "clickhouse-certificate"
    assert "ca=FILE" in str(caught.value)


@given(st.text(), st.lists(st.tuples(st.integers(0, 9), st.text())))
def test_values_arrive_as_they_are(server: ClickHouse, text: str, several: list[tuple[int, str]]) -> None:
    """No text of a stranger becomes a part of a statement."""
    with closing(server.client("default")) as client:
        statement = "SELECT {text:String}, {several:Array(Tuple(UInt8, String))}"
        assert client.select(statement, tuple[str, list[tuple[int, str]]], text=text, several=several) == [
            (text, several)
        ]


@pytest.mark.parametrize("letter", ["n", "'", "\U0001f600"])
def test_long_values_arrive(server: ClickHouse, letter: str) -> None:
    """A list of the largest size arrives, whatever its letters: a URL would be too long for it."""
    [texts, *_] = module.in_parts([f"{letter * 9}{number}.example" for number in range(9000)])
    with closing(server.client("default")) as client:
        statement = "SELECT {texts:Array(String)}, {others:Array(String)}"
        assert client.select(statement, tuple[list[str], list[str]], texts=texts, others=texts) == [(texts, texts)]


def test_long_lists_are_sent_in_parts() -> None:
    """Each part fits into a statement, and all parts are the list."""
    texts = [f"n{number}.example" * 9 for number in range(5000)]
    parts = [*module.in_parts(texts)]
    assert [text for part in parts for text in part] == texts
    assert max(len(module.parameter_text(part)) for part in parts) < module.MOST_VALUES + 1024
    assert len(parts) > 1


@contextmanager
def unmerged(server: ClickHouse, folder: Path) -> Iterator[tuple[ClickHouseStore, ClickHouseReader, ClickHouseClient]]:
    """Yield a store whose rows do not merge, a reader of it, and a client of its database."""
    kept = ClickHouseRows(server, folder)
    with (
        closing(kept.open()) as store,
        closing(kept.reader()) as reader,
        closing(server.client(kept.database)) as admin,
    ):
        store.write([], {}, NOON)
        admin.change("SYSTEM STOP MERGES dnstrail_rows")
        yield store, reader, admin


def test_answers_are_right_before_a_merge(server: ClickHouse, tmp_path: Path) -> None:
    """Parts of a row that ClickHouse has not merged are one row of an answer."""
    with unmerged(server, tmp_path) as (store, reader, admin):
        for at, end, count, used in ((NOON, 300, 1, 0), (NOON - 60, 200, 2, NOON + 7), (NOON, 400, 3, NOON + 5)):
            one = row(at=at, last=NOON, end=NOON + end, count=count, used=used)
            store.write([received(entry("web1", one))], {}, NOON)
        [(parts,)] = admin.select("SELECT count() FROM dnstrail_rows WHERE key = target", tuple[int])
        assert parts == 3
        [one] = reader.touching("203.0.113.7", 10).rows
        assert (one.first, one.last, one.end, one.answers, one.used) == (NOON - 60, NOON, NOON + 400, 3, NOON + 7)
        assert reader.touching("203.0.113.7", 10, at=NOON - 30).rows == [one]
        assert reader.top("names", 9, NOON, lambda: False) == [("shop.example", 3, 1, 1, None)]
        assert reader.new(NOON - 30, 9) == []


def test_rows_that_came_often_lead_only_by_their_answers(server: ClickHouse, tmp_path: Path) -> None:
    """Names, hosts and addresses whose rows came many times, and are not merged, hide none with more answers."""
    often = [entry(f"often{one}", row(f"n{one}.example", f"203.0.113.{one}", count=20 + one)) for one in range(6)]
    private = [entry(f"web{one}", row("db.example", "10.0.0.5", count=9)) for one in range(9)]
    with unmerged(server, tmp_path) as (store, reader, _):
        for _ in range(5):
            store.write([received(one) for one in (*often, *private)], {}, NOON)
        store.write([received(entry("most", row("most.example", "192.0.2.1", count=99)))], {}, NOON)

        def top(what: str, limit: int) -> list[tuple[object, ...]]:
            return [tuple(one) for one in reader.top(what, limit, NOON, lambda: False)]

        assert top("hosts", 2) == [("most", 99, 1, 0, None), ("often5", 25, 1, 0, None)]
        assert top("names", 3) == [
            ("most.example", 99, 1, 1, None),
            ("db.example", 81, 9, 9, None),
            ("n5.example", 25, 1, 1, None),
        ]
        assert top("addresses", 2) == [("192.0.2.1", 99, 1, 1, None), ("203.0.113.5", 25, 1, 1, None)]
        found = top("addresses", 99)
        assert len(found) == 16
        assert sorted(one[4] for one in found if one[0] == "10.0.0.5") == [f"web{one}" for one in range(9)]


def test_the_newest_rows_are_those_of_all_days(server: ClickHouse, tmp_path: Path) -> None:
    """A reader that knows the newest day reads its rows first, and returns what one returns that reads all days.

    Clocks are a day ahead or behind, so that rows of earlier days are the newest ones.
    """
    kept, key = ClickHouseRows(server, tmp_path), "203.0.113.7"
    with closing(kept.open()) as store, closing(kept.reader()) as used:
        for number, late in enumerate((0, DAY, -DAY) * 3):
            days = [row(f"n{number}.example", at=NOON - back * DAY - number * 60) for back in range(6)]
            store.write([received(entry(f"web{number}", *days), late=late * 1000)], {}, NOON)
        assert len(used.touching(key, 99).rows) == 54
        for limit in range(1, 54):
            with closing(kept.reader()) as fresh:
                assert used.touching(key, limit) == fresh.touching(key, limit)
        assert used.touching(key, 99, host="web1") == used.touching(key, 99, host="web1", before=NOON + 2 * DAY)


def test_a_later_version_is_refused(server: ClickHouse, tmp_path: Path) -> None:
    """A store reads no tables of a later version, and makes those of its own only once."""
    kept = ClickHouseRows(server, tmp_path)
    with closing(server.client(kept.database)) as client:
        further = (*VERSIONS, ("CREATE TABLE IF NOT EXISTS more (id UInt8) ENGINE = MergeTree ORDER BY id",))
        for versions in (VERSIONS, further, further):
            make_tables(client, versions)
        assert client.select("SELECT version FROM dnstrail_versions ORDER BY version", tuple[int]) == [(1,), (2,)]
    with closing(kept.open()) as store, pytest.raises(SettingsError, match="later version"):
        store.write([], {}, NOON)


def test_a_missing_database_or_table_is_named(server: ClickHouse) -> None:
    """A lookup before the first write, and a store without its database, have errors with the remedy."""
    with closing(server.client("missing")) as client, pytest.raises(StoreUnavailableError) as caught:
        make_tables(client)
    assert caught.value.reason == "clickhouse-database"
    with closing(server.client(server.new_database())) as client, pytest.raises(StoreUnavailableError) as caught:
        ClickHouseReader(client).new(0, 1)
    assert caught.value.reason == "clickhouse-tables"


def test_a_long_statement_is_ended(server: ClickHouse) -> None:
    """The server ends a statement after the time of its client."""
    with closing(ClickHouseClient(server.address("default"), 0.2)) as client:
        with pytest.raises(StoreUnavailableError) as caught:
            client.select("SELECT sum(sipHash64(number)) FROM numbers(1000000000000)", tuple[int])
        assert caught.value.reason in ("clickhouse-slow", "clickhouse-away")


def test_a_server_that_fails_delays_and_loses_nothing(tmp_path: Path) -> None:
    """Each fault has one line, nothing is acknowledged meanwhile, and all is stored afterwards."""
    if not os.environ.get(WANTED):
        pytest.skip("make test-clickhouse runs these")
    server, log = ClickHouse(tmp_path / "clickhouse"), FakeLog()
    server.start()
    try:
        kept = ClickHouseRows(server, tmp_path)
        with closing(kept.open()) as store, capture_logs() as logs:
            worker = StoreWorker(log, store, FakeClock(NOON))
            worker.step()
            log.put("web1", encode_entry(entry("web1", row())))
            server.stop()
            worker.step()
            worker.step()
            assert (worker.fault, log.done, worker.pause) == ("clickhouse-away", set(), 1.0)
            server.set_password("another")
            server.start()
            worker.step()
            assert (worker.fault, log.done) == ("clickhouse-password", set())
            server.set_password("secret-store")
            worker.step()
            assert (worker.fault, log.done, worker.pause) == ("", {log.entries[0].id}, 0.5)
        assert [(line["event"], line.get("reason")) for line in logs] == [
            ("fleet_not_stored", "clickhouse-away"),
            ("fleet_not_stored", "clickhouse-password"),
            ("fleet_recovered", None),
        ]
        assert "does not know this user with this password" in logs[1]["error"]
        assert [one[1] for one in kept.rows()] == ["shop.example"]
    finally:
        server.stop()


def test_the_command_stores_and_answers(server: ClickHouse, tmp_path: Path) -> None:
    """`dnstrail fleet store --clickhouse` stores what hosts send, and answers as it does from its file."""
    with fleet(tmp_path, "web1") as found:
        found.keep(found.history("web1"), "shop.example", "203.0.113.7")
        found.send("web1")
        found.store("--clickhouse", server.option(server.new_database()))
        wait_until(lambda: found.data("get", key="203.0.113.7").get("dns_queries") == ["shop.example"], "the answer")
        wait_until(lambda: "shop.example" in found.ask("new", "--since", "-1h").stdout, "the new name")
