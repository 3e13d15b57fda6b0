"""The files of a run: whose rights open them, and how large a list may be."""

from __future__ import annotations

import os

import pytest

from dnstrail.errors import SettingsError
from dnstrail.users import User
from dnstrail_cli.run.files import MOST_BYTES, open_file, read_list
from live.processes import run_dir

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
def test_a_file_is_opened_with_the_rights_of_the_caller(tmp_path):
    """Root reads and writes nothing for a caller that this caller could not, and has its rights again afterwards."""
    secret = tmp_path / "secret"
    secret.write_text("a.example")
    secret.chmod(0o600)
    groups = os.getgroups()
    with pytest.raises(SettingsError, match="Permission denied"):
        read_list(secret, STRANGER)
    with pytest.raises(SettingsError, match="Permission denied"):
        open_file(secret, STRANGER, "--report")
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)
    assert secret.read_text() == "a.example"


@as_root
def test_a_file_belongs_to_the_caller():
    """A report that root writes for a caller belongs to the caller."""
    with run_dir() as folder:
        folder.chmod(0o777)
        path = folder / "r.json"
        open_file(path, STRANGER, "--report").close()
        assert (path.stat().st_uid, path.stat().st_gid) == STRANGER
