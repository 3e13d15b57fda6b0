"""The files of a run: whose rights open them, and how large a list may be."""

from __future__ import annotations

import os

import pytest

from dnstrail.errors import SettingsError
from dnstrail.users import User
from dnstrail_run.files import MOST_BYTES, read_list

STRANGER = User(54321, 54321)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def test_a_list_is_bounded(tmp_path):
    """A list that is too large, or no text, is refused."""
    path = tmp_path / "allowed"
    path.write_bytes(b"#" * MOST_BYTES)
    assert len(read_list(path, None)) == MOST_BYTES
    for data, fault in ((b"#" * (MOST_BYTES + 1), "larger"), (b"\xff", "UTF-8")):
        path.write_bytes(data)
        with pytest.raises(SettingsError, match=fault):
            read_list(path, None)


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
