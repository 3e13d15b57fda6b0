"""The contract of the log on a real Valkey with TLS and users.

Tests of dnstrail_fleet.log.valkey_log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
import valkey
from structlog.testing import capture_logs

from builders.fleet import bodies
from dnstrail.errors import SettingsError
from dnstrail_fleet.log import valkey_log as module
from dnstrail_fleet.log.contract import LogUnavailableError, StreamEntry, StreamLag
from dnstrail_fleet.log.stored_entries import READERS
from dnstrail_fleet.log.valkey_log import GROUP, PREFIX, ValkeyLog
from live.certificate import make_certificate
from live.processes import wait_until
from live.valkey_server import Engine, engine


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Return an engine with two hosts."""
    with engine(tmp_path_factory.mktemp("engine"), "web1", "web2") as found:
        yield found


@pytest.fixture
def opened(running: Engine) -> Iterator[Opened]:
    """Return what opens logs on an empty engine."""
    with ExitStack() as stack:
        with closing(running.client()) as admin:
            for key in admin.scan_iter("*"):
                admin.delete(key)
        yield Opened(running, stack)


class Opened:
    """Logs that are closed after a test."""

    def __init__(self, running: Engine, stack: ExitStack) -> None:
        self.engine = running
        self._stack = stack

    def __call__(
        self, user: str, *, dead: int = 60_000, most: int = 100, group: str = GROUP, **files: Path
    ) -> ValkeyLog:
        """Open a log of a user."""
        log = ValkeyLog(self.engine.address(user, **files), time.monotonic, dead=dead, most=most, group=group)
        return self._stack.enter_context(closing(log))


def test_entries_of_all_hosts_are_read_once_in_a_group(opened: Opened) -> None:
    """Readers of a group share the entries, each with its host and the engine's time; an acknowledged one is gone."""
    before = time.time() * 1000
    opened("web1").append(b"a")
    opened("web2").append(b"b")
    store = opened("store")
    entries = store.read(100)
    assert bodies(entries) == [("web1", b"a"), ("web2", b"b")]
    assert all(before - 1 <= one.at <= time.time() * 1000 + 1 for one in entries)
    opened("web1").append(b"c")
    assert bodies(opened("store").read(100)) == [("web1", b"c")]
    assert store.read(100) == []
    store.acknowledge(entries)
    with closing(opened.engine.client()) as admin:
        assert admin.xpending(f"{PREFIX}web1", module.GROUP)["pending"] == 1


def test_a_dead_reader_s_entries_come_again(opened: Opened) -> None:
    """What a reader did not acknowledge in time goes to another one, and counts as trimmed if it is gone."""
    sender = opened("web1", most=2)
    for body in (b"a", b"b"):
        sender.append(body)
    assert len(opened("store").read(100)) == 2
    heir = opened("store", dead=50)
    found: list[StreamEntry] = []
    wait_until(lambda: found.extend(heir.read(100)) or len(found) == 2, "the entries")
    assert bodies(found) == [("web1", b"a"), ("web1", b"b")]
    with closing(opened.engine.client()) as admin:
        admin.xtrim(f"{PREFIX}web1", maxlen=0)
    wait_until(lambda: heir.read(100) or heir.lag()["web1"].trimmed == 2, "the loss")


def test_entries_that_nobody_acknowledges_hold_up_nobody(opened: Opened) -> None:
    """New entries are read while those of another host come again and again, as those of a later version do."""
    evil, sender, store = opened("web1"), opened("web2"), opened("store", dead=1)
    sender.append(b"first")
    for _ in range(40):
        evil.append(b"later")
    found: list[StreamEntry] = []
    wait_until(lambda: found.extend(store.read(4)) or len({one[:2] for one in found}) == 41, "all entries")
    wait_until(lambda: any(one.is_again for one in store.read(4)), "one of them again")
    assert len({one[:2] for one in found if not one.is_again}) == 41
    sender.append(b"a")
    assert ("web2", b"a", False) in {(one.host, one.body, one.is_again) for one in store.read(4)}


def test_a_host_that_appends_without_a_bound_is_trimmed(opened: Opened) -> None:
    """The store bounds the stream of a host that does not; the others' entries stay, and are read."""
    opened("web2").append(b"a")
    with closing(opened.engine.client("web1")) as evil:
        for _ in range(1000):
            evil.xadd(f"{PREFIX}web1", {"e": b"x"})
    store = opened("store", most=100)
    assert ("web2", b"a") in bodies(store.read(100))
    with closing(opened.engine.client()) as admin:
        assert admin.xlen(f"{PREFIX}web1") <= 200
        assert admin.xlen(f"{PREFIX}web2") == 1


def test_a_stream_of_many_large_fields_is_removed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bound of the engine refuses an entry of many large fields: the store removes it unread, and counts it."""
    monkeypatch.setattr(module, "MOST_OF_STREAM", 1 << 20)
    opened("web2").append(b"a")
    with closing(opened.engine.client("web1")) as evil:
        evil.xadd(f"{PREFIX}web1", {f"f{number}": b"x" * 500_000 for number in range(16)})
    store = opened("store")
    with capture_logs() as logs:
        assert bodies(store.read(100)) == [("web2", b"a")]
    assert [(line["event"], line["host"]) for line in logs] == [("stream_removed", "web1")]
    opened("web1").append(b"b")
    wait_until(lambda: bodies(store.read(100)) == [("web1", b"b")], "the next entry")
    assert store.lag()["web1"].trimmed == 1


def test_entries_that_are_trimmed_unread_are_counted(opened: Opened) -> None:
    """The stream of a host is bounded; each entry that nobody read before is counted once."""
    sender, store = opened("web1"), opened("store")
    sender.append(b"a")
    store.acknowledge(store.read(100))
    with closing(opened.engine.client()) as admin:
        for _ in range(3):
            for _ in range(10):
                sender.append(b"b")
            admin.xtrim(f"{PREFIX}web1", maxlen=4, approximate=False)
            store.lag()
    lag = store.lag()["web1"]
    assert (lag.waiting, lag.trimmed) == (4, 26)
    assert len(store.read(100)) == 4
    lag = store.lag()["web1"]
    assert (lag.waiting, lag.trimmed) == (0, 26)


def test_entries_that_were_trimmed_while_no_store_ran_are_counted(opened: Opened) -> None:
    """A store that starts counts what its group lost meanwhile, though it reads at once, and what it trims itself."""
    sender, store = opened("web1", most=9999), opened("store")
    sender.append(b"a")
    store.acknowledge(store.read(100))
    store.close()
    for _ in range(10):
        sender.append(b"b")
    with closing(opened.engine.client()) as admin:
        admin.xtrim(f"{PREFIX}web1", maxlen=4, approximate=False)
    store = opened("store", most=9999)
    store.acknowledge(entries := store.read(100))
    assert (len(entries), store.lag()["web1"]) == (4, StreamLag(0, 6))
    for _ in range(400):
        sender.append(b"c")
    store = opened("store", most=100)
    kept = len(_read_all(store))
    assert 100 <= kept <= 200
    assert store.lag()["web1"] == StreamLag(0, 400 - kept)


def test_entries_that_all_groups_have_leave_the_engine(opened: Opened) -> None:
    """What all groups acknowledged takes no memory of the engine. Nothing is lost, also for a group that begins later.

    Streams lose whole nodes of 100 entries.
    """
    sender, store, other = opened("web1", most=9999), opened("store", most=9999), opened("store", group=READERS)
    sent = [b"%d" % number for number in range(600)]
    for body in sent:
        sender.append(body)
    read = [_read_all(log) for log in (store, other)]
    assert [[one.body for one in entries] for entries in read] == [sent, sent]
    with closing(opened.engine.client()) as admin:
        lengths = []
        for log, entries in zip((store, other), read, strict=True):
            store.lag()
            lengths.append(admin.xlen(f"{PREFIX}web1"))
            log.acknowledge(entries)
        assert lengths == [600, 600]
        assert store.lag()["web1"] == StreamLag(0, 0)
        assert admin.xlen(f"{PREFIX}web1") <= 200
    assert store.lag()["web1"] == StreamLag(0, 0)
    sender.append(b"last")
    later = opened("store", group="later")
    assert _read_all(later)[-1].body == b"last"
    assert later.lag()["web1"].trimmed == store.lag()["web1"].trimmed == 0


def _read_all(log: ValkeyLog) -> list[StreamEntry]:
    return [entry for part in iter(lambda: log.read(100), []) for entry in part]


def test_a_stream_is_bounded_by_its_sender(opened: Opened) -> None:
    """A stream keeps about as many entries as its bound."""
    sender = opened("web1", most=10)
    for _ in range(500):
        sender.append(b"a")
    with closing(opened.engine.client()) as admin:
        assert 10 <= admin.xlen(f"{PREFIX}web1") < 200  # trimmed by whole nodes of 100 entries


@pytest.mark.parametrize(
    "command",
    [
        ("XRANGE", f"{PREFIX}web1", "-", "+"),
        ("XREAD", "STREAMS", f"{PREFIX}web1", "0"),
        ("XADD", f"{PREFIX}web2", "*", "e", "forged"),
        ("XTRIM", f"{PREFIX}web1", "MAXLEN", "0"),
        ("XDEL", f"{PREFIX}web1", "0-1"),
        ("DEL", f"{PREFIX}web1"),
        ("SCAN", "0"),
        ("CONFIG", "GET", "*"),
        ("ACL", "LIST"),
    ],
)
def test_a_host_may_only_append_to_its_own_stream(opened: Opened, command: tuple[str, ...]) -> None:
    """The user of a host is refused all that reads, and all that writes elsewhere."""
    opened("web1").append(b"a")
    with closing(opened.engine.client("web1")) as client, pytest.raises(valkey.exceptions.NoPermissionError):
        client.execute_command(*command)


def test_faults_have_their_reasons(opened: Opened, tmp_path: Path) -> None:
    """A wrong password, a wrong certificate, a refused call, a full and a read-only engine have each a reason."""
    make_certificate(tmp_path, "other.test", "127.0.0.1")
    wrong = opened.engine.password_file("wrong", "guess")
    log = opened("web1")
    assert reason(opened("web1", password=wrong)) == "password"
    assert reason(opened("web1", ca=tmp_path / "certificate.pem")) == "certificate"
    assert reason(opened("store")) == "permission"
    with closing(opened.engine.client()) as admin:
        for key, value, expected in (("maxmemory", "1mb", "full"), ("min-replicas-to-write", "1", "read-only")):
            before = admin.config_get(key)[key]
            admin.config_set(key, value)
            assert reason(log) == expected
            admin.config_set(key, before)
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        assert reason(log) == "read-only"
        admin.execute_command("REPLICAOF", "NO", "ONE")
    log.append(b"again")


def test_only_the_stated_authority_is_trusted(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate of another authority is refused, also if the system trusts it; a file without one is named."""
    make_certificate(tmp_path, "other.test", "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(opened.engine.ca))
    assert reason(opened("web1", ca=tmp_path / "certificate.pem")) == "certificate"
    opened("web1").append(b"a")
    for content in ("", "no certificate"):
        (tmp_path / "certificate.pem").write_text(content)
        with pytest.raises(SettingsError, match="PEM"):
            opened("web1", ca=tmp_path / "certificate.pem")


def reason(log: ValkeyLog) -> str:
    """Return why an entry cannot be appended."""
    with pytest.raises(LogUnavailableError) as error:
        log.append(b"x")
    return error.value.reason


def test_an_engine_that_was_emptied_or_restarted_is_read_on(opened: Opened) -> None:
    """After an empty start the group is made anew; after a restart nothing comes twice."""
    sender, store = opened("web1"), opened("store")
    sender.append(b"a")
    assert len(store.read(100)) == 1
    with closing(opened.engine.client()) as admin:
        admin.delete(f"{PREFIX}web1")
    sender.append(b"b")
    wait_until(lambda: bodies(attempt(store)) == [("web1", b"b")], "the entry after the loss")
    opened.engine.stop()
    assert reason(sender) == "away"
    opened.engine.start()
    sender.append(b"c")
    wait_until(lambda: bodies(attempt(store)) == [("web1", b"c")], "the entry after the restart")


def attempt(store: ValkeyLog) -> list[StreamEntry]:
    """Read, if the engine can be read."""
    try:
        return store.read(100)
    except LogUnavailableError:
        return []


def test_what_an_engine_lost_is_appended_again_and_counted(opened: Opened) -> None:
    """A new connection finds entries missing: they come again with their ids, and those that are there do not."""
    sender, admin = opened("web1"), opened.engine.client()
    with closing(admin):
        for number in range(5):
            sender.append(b"%d" % number)
        before = admin.xrange(f"{PREFIX}web1")
        restore(admin, before[:3])
        with capture_logs() as logs:
            append(sender, b"5")
            sender.append(b"6")
        after = admin.xrange(f"{PREFIX}web1")
        assert after[:5] == before
        assert [fields[b"e"] for _, fields in after] == [b"%d" % number for number in range(7)]
        assert sender.repeated == 2
        assert [(line["event"], line["count"]) for line in logs] == [("entries_repeated", 2)]
        restore(admin, after)  # a connection is lost, but no entry
        append(sender, b"7")
        assert (admin.xlen(f"{PREFIX}web1"), sender.repeated) == (8, 2)


def test_a_sender_keeps_a_bounded_number_of_last_entries(opened: Opened) -> None:
    """If the engine has none of the last entries, earlier ones may be lost: that is stated."""
    sender, admin = opened("web1", most=1000), opened.engine.client()
    with closing(admin):
        for number in range(module.MOST_UNSURE + 2):
            sender.append(b"%d" % number)
        before = admin.xrange(f"{PREFIX}web1")
        restore(admin, [])
        with capture_logs() as logs:
            append(sender, b"last")
        assert [entry for entry in admin.xrange(f"{PREFIX}web1") if entry in before] == before[2:]
        assert sender.repeated == module.MOST_UNSURE
        assert [line["event"] for line in logs] == ["entries_repeated", "entries_lost"]
        assert logs[1]["before"] == before[2][0].decode()


def append(sender: ValkeyLog, body: bytes) -> None:
    """Append an entry, again if the connection was lost."""

    def is_appended() -> bool:
        with suppress(LogUnavailableError):
            sender.append(body)
            return True
        return False

    wait_until(is_appended, "the entry")


def restore(admin: Any, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
    """Leave a stream with its first entries alone, as a replica has it that becomes the primary; end connections."""
    admin.delete(f"{PREFIX}web1")
    for number, fields in entries:
        admin.xadd(f"{PREFIX}web1", fields, id=number)
    admin.execute_command("CLIENT", "KILL", "USER", "web1")


def test_streams_are_bounded_and_read_in_turn(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams beyond the bound are left out and counted; the entries of many streams are all read."""
    monkeypatch.setattr(module, "MOST_HOSTS", 20)
    with closing(opened.engine.client()) as admin:
        for number in range(21):
            for _ in range(6):
                admin.xadd(f"{PREFIX}host{number:02d}", {"e": b"x"})
    store = opened("store")
    found: list[StreamEntry] = []
    with capture_logs() as logs:
        while part := store.read(64):
            found += part
    assert [(line["event"], line["count"]) for line in logs] == [("hosts_left_out", 1)]
    assert (len({one.host for one in found}), len(found), store.left_out) == (20, 120, 1)
