"""The files of a run: whose rights open them, and how large a list may be."""

from __future__ import annotations

import os
from functools import partial

import pytest

from dnstrail.errors import SettingsError
from dnstrail.users import User
from dnstrail_run.allow_list import parse_allow_list
from dnstrail_run.files import MOST_BYTES, read_list

STRANGER = User(54321, 54321)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def test_a_list_is_bounded(tmp_path):
    """A list that is too large, or no text, is refused."""
    path = tmp_path / "allowed"
    path.write_bytes(b"#" * MOST_BYTES)
    assert len(read_list(path, None)) == MOST_BYTES
    for data, fault in ((b"#" * (MOST_BYTES + 1), "longer"), (b"\xff", "UTF-8")):
        path.write_bytes(data)
        with pytest.raises(SettingsError, match=fault):
            read_list(path, None)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_list_is_a_regular_file(tmp_path, trusted):
    """A FIFO that nobody writes is refused at once, also as an included file."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SettingsError, match="not a regular file"):
        read_list(tmp_path / "fifo", None, trusted=trusted)
    with pytest.raises(SettingsError, match="not a regular file"):
        parse_allow_list("include fifo", tmp_path / "list", partial(read_list, user=None, trusted=trusted))


def test_a_trusted_list_is_written_by_nobody_else(tmp_path):
    """A list that others may write is refused if it is to be trusted."""
    path = tmp_path / "allowed"
    path.write_text("a.example")
    assert read_list(path, None, trusted=True) == "a.example"
    path.chmod(0o666)
    assert read_list(path, None) == "a.example"
    with pytest.raises(SettingsError, match=f"--allow {path}: others may write it"):
        read_list(path, None, trusted=True)


@as_root
def test_a_list_is_read_with_the_rights_of_the_caller(tmp_path):
    """Root reads no list for a caller that this caller could not read, and has its rights again afterwards."""
    secret = tmp_path / "secret"
    secret.write_text("a.example")
    secret.chmod(0o600)
    groups = os.getgroups()
    with pytest.raises(SettingsError, match="Permission denied"):
        read_list(secret, STRANGER)
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)
