"""Hosts are invited, join, send and are revoked, by the commands that people type, at a real Valkey with TLS.

Tests of dnstrail_fleet.enrolment.command, dnstrail_fleet.enrolment.engine_users, dnstrail_fleet.log.engine_client.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import valkey

from dnstrail.errors import SettingsError
from dnstrail_fleet.log.contract import LogUnavailableError
from dnstrail_fleet.log.engine_address import parse_engine
from dnstrail_fleet.log.valkey_log import PREFIX, ValkeyLog
from live.valkey_server import Engine, engine


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Return an engine without hosts."""
    with engine(tmp_path_factory.mktemp("engine")) as found:
        yield found


def run(*words: str, folder: Path, code: int = 0) -> str:
    """Run `dnstrail fleet` in a folder, and return what it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "dnstrail_cli", "fleet", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def invite(running: Engine, folder: Path, name: str, code: int = 0) -> str:
    """Invite a host."""
    return run("invite", name, "--engine", running.option("admin"), folder=folder, code=code)


def revoke(running: Engine, folder: Path, name: str, code: int = 0) -> str:
    """Revoke a host."""
    return run("revoke", name, "--engine", running.option("admin"), folder=folder, code=code)


def log_of(path: Path | str) -> Any:
    """Return the log of what an invitation names."""
    return closing(ValkeyLog(parse_engine(str(path)), time.monotonic))


def test_a_host_joins_sends_and_is_revoked(running: Engine, tmp_path: Path) -> None:
    """An invited host writes in its own name alone; once revoked, it writes no more, also by an open connection."""
    assert "sudo dnstrail fleet join web7.json" in invite(running, tmp_path, "web7")
    assert (tmp_path / "web7.json").stat().st_mode & 0o777 == 0o600
    joined = tmp_path / "etc/fleet.json"
    assert "this host is web7" in run("join", "web7.json", "--to", str(joined), folder=tmp_path)
    assert joined.stat().st_mode & 0o777 == 0o600
    password = json.loads(joined.read_bytes())["password"]
    assert password not in repr(parse_engine(str(joined)))
    with log_of(joined) as host, closing(ValkeyLog(running.address("store"), time.monotonic)) as store:
        host.append(b"a")
        with closing(running.client("web7", password)) as own:
            for refused in (("XRANGE", f"{PREFIX}web7", "-", "+"), ("XADD", f"{PREFIX}web8", "*", "e", "x")):
                with pytest.raises(valkey.exceptions.NoPermissionError):
                    own.execute_command(*refused)
        assert "1 entries wait for the store" in revoke(running, tmp_path, "web7")
        with pytest.raises(LogUnavailableError, match="does not know this user"):
            host.append(b"b")
        entries = store.read(10)
        assert [(one.host, one.body) for one in entries] == [("web7", b"a")]
        assert "1 entries wait" in revoke(running, tmp_path, "web7")  # read, but not stored
        store.acknowledge(entries)
        assert revoke(running, tmp_path, "web7") == "the stream of web7 is removed\n"
    assert "no host web7" in revoke(running, tmp_path, "web7", code=1)
    assert "does not know this user" in run("join", "web7.json", "--to", str(joined), folder=tmp_path, code=4)


def test_users_outlive_a_restart(running: Engine, tmp_path: Path) -> None:
    """A user of an invitation is there after a restart of the engine, and a revoked one is not."""
    for name in ("kept", "gone"):
        invite(running, tmp_path, name)
    revoke(running, tmp_path, "gone")
    running.stop()
    running.start()
    with log_of(tmp_path / "kept.json") as host:
        host.append(b"a")
    with log_of(tmp_path / "gone.json") as host, pytest.raises(LogUnavailableError):
        host.append(b"a")
    revoke(running, tmp_path, "kept")


def test_a_name_is_given_once(running: Engine, tmp_path: Path) -> None:
    """A second host of one name, an administrator, a name that is a pattern, and an existing file are refused."""
    invite(running, tmp_path, "web1")
    assert "exists" in invite(running, tmp_path, "web1", code=2)
    (tmp_path / "web1.json").rename(tmp_path / "first.json")
    assert "has a user web1" in invite(running, tmp_path, "web1", code=2)
    assert "has a user admin" in invite(running, tmp_path, "admin", code=2)
    for name in ("*", "../web1"):
        assert "letters, digits" in invite(running, tmp_path, name, code=2)
    assert "other rights than a host" in revoke(running, tmp_path, "admin", code=2)
    assert "other rights than a host" in revoke(running, tmp_path, "store", code=2)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["first.json"]


def test_a_file_that_cannot_be_written_leaves_no_user(running: Engine, tmp_path: Path) -> None:
    """The user is removed if its invitation cannot be written."""
    (tmp_path / "web5.json").symlink_to("none/web5.json")  # it does not exist, and cannot be made
    assert "File exists" in invite(running, tmp_path, "web5", code=4)
    with closing(running.client()) as admin:
        assert "web5" not in admin.acl_users()


def test_an_engine_that_forgets_its_users_is_refused(running: Engine, tmp_path: Path) -> None:
    """A host may not make users, and an engine without an aclfile gets none."""
    invite(running, tmp_path, "web2")
    assert "may not do this" in run("invite", "web3", "--engine", "web2.json", folder=tmp_path, code=4)
    running.acl.rename(tmp_path / "acl")
    running.acl.mkdir()  # the engine cannot replace a folder by its file
    try:
        assert "error trying to save the ACLs" in invite(running, tmp_path, "web4", code=4)
        with closing(running.client()) as admin:
            assert "web4" not in admin.acl_users()
    finally:
        running.acl.rmdir()
        (tmp_path / "acl").rename(running.acl)
    assert not (tmp_path / "web4.json").exists()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"engine": "valkey://web1@engine.example"}, "without TLS"),
        ({"engine": "valkeys://engine.example"}, "name the user"),
        ({"engine": 3}, "Expected `str`"),
        ({"ca": "no certificate"}, "PEM"),
        ({"v": 2}, "Invalid enum value"),
        ({"more": 1}, "unknown field"),
    ],
)
def test_a_forged_invitation_is_refused(
    running: Engine, tmp_path: Path, changes: dict[str, object], fault: str
) -> None:
    """An invitation without TLS, without a user, with another CA, of another version: each names its fault."""
    made = {"v": 1, "engine": f"valkeys://web1@127.0.0.1:{running.port}", "ca": running.ca.read_text(), "password": "x"}
    path = tmp_path / "forged.json"
    path.write_text(json.dumps(made | changes))
    path.chmod(0o600)
    with pytest.raises(SettingsError, match=fault), log_of(path):
        pass


def test_an_invitation_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """A file that others can write, one that is no invitation, and a missing one are refused."""
    path = tmp_path / "open.json"
    path.write_text("[" * 100_000)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="fleet invite"):
        parse_engine(str(path))
    path.chmod(0o666)
    with pytest.raises(SettingsError, match="others may write"):
        parse_engine(str(path))
    assert "No such file" in run("send", "--engine", str(tmp_path / "none.json"), folder=tmp_path, code=2)
