"""The files of a run: whose rights open them, and how large a list may be."""

from __future__ import annotations

import os
from functools import partial

import pytest

from dnstrail.errors import SettingsError
from dnstrail.users import User
from dnstrail_run.allow_list import MOST_ENTRIES, parse_allow_list
from dnstrail_run.files import MOST_BYTES, ListFile, read_list

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


def test_a_line_is_added_behind_the_others(tmp_path):
    """Comments, order and a last line without an end stay; each addition is a line of its own."""
    path = tmp_path / "allowed"
    path.write_text("b.test  # one\n\n# two\na.test")
    file = ListFile(path, None, parse_allow_list)
    assert [file.add("c.test  # today"), file.add("d.test")] == ["", ""]
    assert path.read_text() == "b.test  # one\n\n# two\na.test\nc.test  # today\nd.test\n"


def test_what_would_be_no_list_is_not_added(tmp_path):
    """A list stays within its bounds: entries and bytes. The reason is returned."""
    path = tmp_path / "allowed"
    for text, fault in (("a.test\n" * MOST_ENTRIES, "entries"), (f"#{'x' * (MOST_BYTES - 7)}\n", "longer")):
        path.write_text(text)
        assert fault in ListFile(path, None, parse_allow_list).add("b.test")
        assert path.read_text() == text


def test_a_list_that_was_replaced_is_left_alone(tmp_path):
    """Neither the file that was opened nor what is at its path now gets the line: the command may have put it there."""
    path = tmp_path / "allowed"
    path.write_text("a.test\n")
    file = ListFile(path, None, parse_allow_list)
    path.rename(tmp_path / "before")
    assert "No such file" in file.add("b.test")
    path.symlink_to("/dev/null")
    assert file.add("b.test") == "the file was replaced"
    assert (tmp_path / "before").read_text() == "a.test\n"


@as_root
def test_a_list_is_extended_with_the_rights_of_the_caller(tmp_path):
    """A list that the caller may not write stays, and the reason is returned."""
    path = tmp_path / "allowed"
    path.write_text("a.test\n")
    assert ListFile(path, STRANGER, parse_allow_list).add("b.test") == "Permission denied"
    assert path.read_text() == "a.test\n"
