"""The user that the workers of root become."""

from __future__ import annotations

import os
import pwd

import pytest

from dnstrail import users
from dnstrail.errors import SettingsError
from dnstrail.process.privileges import calling_user
from dnstrail.users import UNUSED_IDS, User, caller_of_sudo

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
FIRST = UNUSED_IDS[0]


@pytest.fixture
def no_service_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the caller of sudo, and the user dnstrail of the host, from the view of this process."""

    def entry(name: str) -> pwd.struct_passwd:
        raise KeyError(name)

    monkeypatch.delenv("SUDO_UID", raising=False)
    monkeypatch.setattr(pwd, "getpwnam", entry)


@pytest.mark.usefixtures("no_service_user")
def test_without_a_caller_an_id_is_chosen_that_nothing_else_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that are in a passwd or group entry, or that a process has, are passed over."""
    monkeypatch.setattr(users, "_ids_of_processes", lambda: {FIRST})
    monkeypatch.setattr(users, "_has_entry", {FIRST + 1}.__contains__)
    assert calling_user() == User(FIRST + 2, FIRST + 2)


@pytest.mark.usefixtures("no_service_user")
def test_without_an_unused_id_the_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """If every reserved id is in use, the error names the user to add."""
    monkeypatch.setattr(users, "_ids_of_processes", lambda: {*UNUSED_IDS})
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
    assert {os.getuid(), os.getgid()} <= users._ids_of_processes()
    assert users._has_entry(pwd.getpwnam("nobody").pw_uid)
    assert not users._has_entry(FIRST)


@pytest.mark.parametrize("uid", ["", "0", "\u00b2", "-1", "4294967295", "9" * 5000])
def test_what_is_no_id_is_no_caller(monkeypatch: pytest.MonkeyPatch, uid: str) -> None:
    """SUDO_UID names a caller only if it is the id of a user who is not root."""
    monkeypatch.setenv("SUDO_GID", "1000")
    monkeypatch.setenv("SUDO_UID", uid)
    assert caller_of_sudo() is None
    monkeypatch.setenv("SUDO_UID", "1000")
    assert caller_of_sudo() == User(1000, 1000)
