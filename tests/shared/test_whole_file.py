"""A file that is put in place whole: its mode, what it replaces, and what a failure leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dnstrail.whole_file import write_whole


def test_a_file_has_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    """The content is there with the mode, and an earlier file is replaced."""
    path = tmp_path / "one"
    path.write_bytes(b"before")
    before = os.umask(0o077)
    try:
        write_whole(path, b"after", 0o644)
    finally:
        os.umask(before)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"after", 0o644)
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("is_link", [False, True])
def test_a_file_that_is_not_to_be_replaced_stays(tmp_path: Path, is_link: bool) -> None:
    """A file, or a link that leads nowhere, is refused, and nothing else is left."""
    path = tmp_path / "one"
    path.symlink_to("none") if is_link else path.write_bytes(b"before")
    with pytest.raises(FileExistsError):
        write_whole(path, b"after", 0o600, replace=False)
    assert [*tmp_path.iterdir()] == [path]
    assert is_link or path.read_bytes() == b"before"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    """What cannot be put in place is removed."""
    path = tmp_path / "one"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_whole(path, b"after", 0o600)
    assert [*tmp_path.iterdir()] == [path]
