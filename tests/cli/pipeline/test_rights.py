"""The users and capabilities of all processes of a run that root starts."""

from __future__ import annotations

import os
import pwd
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnstrail.errors import SettingsError
from dnstrail.process import privileges
from dnstrail.process.privileges import UNUSED_IDS, User, calling_user
from live.processes import children_of, command_line, dnstrail, run_dir, started, text_of, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
NONE = "0" * 16
FIRST = UNUSED_IDS[0]


@contextmanager
def rights(**env: str) -> Iterator[dict[str, dict[str, str]]]:
    """Yield the status of each process of a run, by the name of its worker."""
    with run_dir() as folder:
        folder.chmod(0o755)
        with started("--capture", "dnstap", "--run-dir", folder / "run", **env) as run:
            names = ("probe", "cache", "signatures")
            assert run.stderr is not None
            wait_until(lambda: "dnstrail: ready\n" in iter(run.stderr.readline, ""), "the pipeline")
            processes = {name: child for child in children_of(run.pid) for name in names if name in command_line(child)}
            assert len(processes) == len(names)
            found = {name: status_of(process) for name, process in {"dnstrail": run.pid, **processes}.items()}
            for name, status in found.items():
                sys.stdout.write(f"{name}: Uid {status['Uid']} CapEff {status['CapEff']}\n")
            yield found


def status_of(process: int) -> dict[str, str]:
    """Return the fields of the status of a process."""
    return dict(re.findall(r"^(\w+):\t(.*)$", text_of(Path(f"/proc/{process}/status")), re.MULTILINE))


@pytest.fixture
def no_service_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the caller of sudo, and the user dnstrail of the host, from the view of this process."""

    def entry(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setattr(pwd, "getpwnam", entry)


@pytest.mark.parametrize("caller", ["", "61000"], ids=["root", "a caller of sudo"])
def test_the_workers_of_root_have_no_rights(caller: str) -> None:
    """Cache and signatures run as the caller of sudo, else as one that is neither root nor nobody, without rights."""
    with rights(SUDO_UID=caller, SUDO_GID=caller) as found:
        assert found["probe"]["CapEff"] == found["probe"]["CapPrm"] == NONE  # it serves a dnstap socket
        users = {found[name]["Uid"] for name in ("cache", "signatures")}
        assert len(users) == 1
        [user, *others] = users.pop().split()
        assert others == [user] * 3
        assert user == caller if caller else int(user) not in {0, pwd.getpwnam("nobody").pw_uid}
        for name in ("cache", "signatures"):
            status = found[name]
            assert (status["CapEff"], status["CapPrm"], status["CapAmb"]) == (NONE, NONE, NONE)
            assert (status["NoNewPrivs"], status["Groups"].strip()) == ("1", "")


def test_a_second_run_leaves_the_folder_of_the_first_as_it_is() -> None:
    """A run on the folder of a running one is refused before the folder changes hands."""
    with run_dir() as folder:
        folder.chmod(0o755)
        sockets = folder / "run"
        with started("--capture", "dnstap", "--run-dir", sockets, SUDO_UID="61000", SUDO_GID="61000") as run:
            assert run.stderr is not None
            wait_until(lambda: "dnstrail: ready\n" in iter(run.stderr.readline, ""), "the pipeline")
            second = dnstrail("--capture", "demo", "--run-dir", sockets, SUDO_UID="61001", SUDO_GID="61001")
            assert (second.returncode, sockets.stat().st_uid) == (4, 61000)
            assert "another dnstrail serves here" in second.stderr


@pytest.mark.usefixtures("no_service_user")
def test_without_a_caller_an_id_is_chosen_that_nothing_else_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that are in a passwd or group entry, or that a process has, are passed over."""
    monkeypatch.setattr(privileges, "_ids_of_processes", lambda: {FIRST})
    monkeypatch.setattr(privileges, "_has_entry", {FIRST + 1}.__contains__)
    assert calling_user() == User(FIRST + 2, FIRST + 2)


@pytest.mark.usefixtures("no_service_user")
def test_without_an_unused_id_the_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If every reserved id is in use, the error names the user to add."""
    monkeypatch.setattr(privileges, "_ids_of_processes", lambda: {*UNUSED_IDS})
    with pytest.raises(SettingsError, match=r"add a system user dnstrail$"):
        calling_user()


def test_the_user_dnstrail_comes_before_an_unused_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a caller of sudo, the workers become the user dnstrail where there is one."""
    monkeypatch.delenv("SUDO_UID", raising=False)
    entry = pwd.struct_passwd(("dnstrail", "x", 990, 991, "", "/", "/bin/false"))
    monkeypatch.setattr(pwd, "getpwnam", {"dnstrail": entry}.__getitem__)
    assert calling_user() == User(990, 991)


def test_the_ids_of_running_processes_are_found() -> None:
    """The ids of this process are among those in use; so is the id of an entry."""
    assert {os.getuid(), os.getgid()} <= privileges._ids_of_processes()
    assert privileges._has_entry(pwd.getpwnam("nobody").pw_uid)
    assert not privileges._has_entry(FIRST)
