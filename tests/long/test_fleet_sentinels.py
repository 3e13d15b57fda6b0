"""A primary that is killed (-9) loses nothing: the fleet goes on at its replica, which the sentinels name.

Tests of dnstrail_fleet.log.engine_client, dnstrail_fleet.log.valkey_log, dnstrail_fleet.enrolment.engine_users.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, cast

import pytest
import valkey

from builders.fleet import entry, row
from dnstrail_fleet.log.contract import LogUnavailableError
from dnstrail_fleet.log.engine_address import PRIMARY, parse_engine
from dnstrail_fleet.log.valkey_log import PREFIX, ValkeyLog
from dnstrail_fleet.row import encode_entry
from live.fleet_processes import Fleet
from live.processes import dnstrail, run_dir, wait_until
from live.sentinels import Watched, watched
from live.valkey_server import Engine


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Return a primary and its replica, which sentinels watch, with the users of two hosts."""
    with watched(tmp_path_factory.mktemp("pair"), "web1", "web2") as found:
        yield found


@pytest.fixture
def primary(pair: Watched) -> Engine:
    """Return the primary of a pair that is whole."""
    return pair.repair()


def test_a_host_is_a_user_of_all_servers(
    pair: Watched, primary: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invited host may append at each server, and ask each sentinel for the primary alone; a revoked one is gone."""
    monkeypatch.chdir(tmp_path)
    admin = ("--engine", pair.option("admin"))
    assert dnstrail("fleet", "invite", "web7", *admin).returncode == 0
    assert users_of(pair, "web7") == [True] * 5
    joined = dnstrail("fleet", "join", "web7.json", "--to", tmp_path / "fleet.json")
    assert (joined.returncode, joined.stderr) == (0, "")
    invited = parse_engine("web7.json")
    for one in pair.sentinels:
        with closing(
            valkey.Valkey("127.0.0.1", one.port, username="web7", password=invited.password, **tls(pair))
        ) as own:
            assert PRIMARY in own.sentinel_masters()
            for refused in (("SENTINEL", "FAILOVER", PRIMARY), ("SENTINEL", "REMOVE", PRIMARY), ("ACL", "LIST")):
                with pytest.raises(valkey.exceptions.NoPermissionError):
                    own.execute_command(*refused)
    pair.replica_of(primary).kill()
    refused = dnstrail("fleet", "invite", "web8", *admin)
    assert (refused.returncode, "is it running?" in refused.stderr) == (4, True)
    assert users_of(pair, "web8") == [False] * 4
    assert not (tmp_path / "web8.json").exists()
    assert dnstrail("fleet", "revoke", "web7", *admin).returncode == 4  # the replica has the user still
    assert users_of(pair, "web7") == [False] * 4
    pair.start_replica(pair.replica_of(primary), primary)
    assert users_of(pair, "web7").count(True) == 1
    assert "can write no more" in dnstrail("fleet", "revoke", "web7", *admin).stdout
    assert users_of(pair, "web7") == [False] * 5
    assert "other rights" in dnstrail("fleet", "revoke", "sentinel", *admin).stderr


def users_of(pair: Watched, name: str) -> list[bool]:
    """Return whether each server that runs, and each sentinel, has a user."""
    found = []
    for one in (*(one for one in pair.servers if one.is_running), *pair.sentinels):
        with closing(one.client()) as client:
            found.append(name in client.acl_users())
    return found


def tls(pair: Watched) -> dict[str, Any]:
    """Return what a client needs for TLS."""
    return {"ssl": True, "ssl_ca_certs": str(pair.servers[0].ca)}


def test_a_killed_primary_loses_nothing(pair: Watched, primary: Engine, tmp_path: Path) -> None:
    """Sender and store ask the other sentinels. Entries that the old primary alone had come again, with their ids."""
    now = int(time.time())
    sent = [encode_entry(entry("web2", row(f"n{number}.example", at=now), sent=now)) for number in range(5)]
    with run_dir() as run, ExitStack() as stack:
        known = Fleet(tmp_path, cast("Any", pair), run, stack)
        log = stack.enter_context(closing(ValkeyLog(pair.address("web2"), time.monotonic)))
        history = known.history("web1")
        known.keep(history, "before.example", "203.0.113.7")
        sender = known.send("web1")
        known.store()
        log.append(sent[0])
        wait_until(lambda: all(known.data("get", key=name) for name in ("before.example", "n0.example")), "both hosts")
        with closing(primary.client()) as admin, closing(pair.replica_of(primary).client()) as replica:
            wait_until(lambda: replica.xlen(f"{PREFIX}web2") == 1, "the replica")
            replica.config_set("primaryauth", "wrong")  # it receives nothing more
            replica.execute_command("CLIENT", "KILL", "TYPE", "master")
            for body in sent[1:4]:
                log.append(body)
            before = admin.xrange(f"{PREFIX}web2")
        pair.sentinels[0].stop()  # the machine of both dies
        primary.kill()
        known.keep(history, "after.example", "203.0.113.7")
        wait_until(lambda: is_appended(log, sent[4]), "the new primary")
        assert log.repeated == 3
        wait_until(lambda: pair.primary is not primary, "the sentinels")
        with closing(pair.primary.client()) as admin:
            after = admin.xrange(f"{PREFIX}web2")
        assert (after[:4], [fields[b"e"] for _, fields in after]) == (before, sent)
        for name in ("after.example", "n3.example", "n4.example"):
            wait_until(lambda name=name: known.data("get", key=name), name)
        sender.terminate()
        lines = [json.loads(line) for line in sender.communicate()[1].splitlines()]
    assert (lines[0]["event"], lines[-1]["event"]) == ("ready", "stopped")
    assert {line["reason"] for line in lines if line["event"] == "engine_unavailable"} <= {"away", "read-only"}


def is_appended(log: ValkeyLog, body: bytes) -> bool:
    """Append an entry, if it can be."""
    with suppress(LogUnavailableError):
        log.append(body)
        return True
    return False
