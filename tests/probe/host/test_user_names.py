from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dnstrail_probe.host import user_names
from dnstrail_probe.host.user_names import UserNames
from live.namespaces import live_or_skip

PASSWD = """root:x:0:0:root:/root:/bin/bash
alice:x:1000:1000::/home/alice:/bin/sh
second:x:1000:1000::/:/bin/sh
"""


@pytest.fixture
def passwd(tmp_path: Path) -> Path:
    """Return a file of users."""
    path = tmp_path / "passwd"
    path.write_text(PASSWD)
    return path


def test_the_name_of_a_user(passwd):
    """A user has the name of the first line with the id; one without a line has its number."""
    names = UserNames(passwd)
    assert [names.of(uid) for uid in (0, 1000, 1001)] == ["root", "alice", "1001"]


def test_the_account_of_a_user(passwd):
    """A user has number and home by name; nobody has those of a line whose number another name has."""
    passwd.write_text(f"{PASSWD}alice:x:1002:1002::/srv/other:/bin/sh\nshort:x:1003\n")
    names = UserNames(passwd)
    assert [names.account(name) for name in ("alice", "short")] == [(1000, "/home/alice"), (1003, "")]
    assert names.account("second") is names.account("1000") is None


def test_the_names_of_this_host():
    """Without an argument the file is the one of process 1, here of a PID namespace of its own."""
    live_or_skip("unshare")
    code = "from dnstrail_probe.host.user_names import UserNames; print(UserNames().of(0))"
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "root\n"


def test_a_change_is_noticed(passwd):
    """A user who was added later has a name, and one who was removed a number again."""
    names = UserNames(passwd)
    assert names.of(1001) == "1001"
    new = passwd.with_name("new")
    new.write_text("bob:x:1001:1001::/:/bin/sh\n")
    new.replace(passwd)  # as useradd does
    assert [names.of(uid) for uid in (1001, 1000)] == ["bob", "1000"]
    passwd.unlink()
    assert names.of(1001) == "1001"


@pytest.mark.parametrize(
    "line",
    ["a/b:x:1000:0", "1001:x:1000:0", ":x:1000:0", "x\x1b:x:1000:0", "a:x:+1000:0", "a:x:", "a", "a:x:\u0661000:0", ""],
)
def test_a_line_that_names_nobody(passwd, line):
    """A name with a slash, a number as a name, or a broken line yields the number of the user."""
    passwd.write_bytes(f"{line}\n".encode())
    assert UserNames(passwd).of(1000) == "1000"


def test_a_long_file_is_not_read(passwd, monkeypatch):
    """With a file of more bytes than the bound, users have numbers."""
    monkeypatch.setattr(user_names, "_MOST_BYTES", len(PASSWD))
    assert UserNames(passwd).of(1000) == "alice"
    passwd.write_text(f"{PASSWD}#")
    assert UserNames(passwd).of(1000) == "1000"


def test_no_file_is_waited_for(tmp_path):
    """A pipe in its place yields numbers."""
    os.mkfifo(tmp_path / "passwd")
    assert UserNames(tmp_path / "passwd").of(0) == "0"
