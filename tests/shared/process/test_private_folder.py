"""A folder is handed over with its own files alone, and never while it is in use."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dnstrail.errors import SettingsError
from dnstrail.process.private_folder import FolderInUseError, hand_over_private, open_private
from dnstrail.users import User
from live.processes import run_dir

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
ALICE, BOB = User(61_000, 61_000), User(61_001, 61_001)


def owners(folder: Path) -> set[int]:
    """Return the users to whom a folder and its files belong."""
    return {path.stat().st_uid for path in (folder, *folder.iterdir())}


def test_a_folder_goes_from_user_to_user():
    """A missing folder is made for a user alone, and the next user receives it with its files."""
    with run_dir() as parent:
        folder = parent / "above" / "history"
        hand_over_private(folder, ALICE, "--folder")
        assert (owners(folder), folder.stat().st_mode & 0o777) == ({ALICE.uid}, 0o700)
        (folder / "file").touch()
        for user in (BOB, BOB, ALICE):
            hand_over_private(folder, user, "--folder")
            assert owners(folder) == {user.uid}
        hand_over_private(folder, None, "--folder")


def test_the_former_owner_reads_and_writes_nothing_more():
    """Descriptors that the former owner kept are those of other files: what is written later is not in them."""
    with run_dir() as parent:
        folder = parent / "history"
        hand_over_private(folder, BOB, "--folder")
        file = folder / "file"
        file.write_bytes(b"before" * 100_000)
        os.chown(file, BOB.uid, BOB.gid)
        os.utime(file, ns=(5, 7))
        (folder / ".copy").write_bytes(b"of a hand-over that was interrupted")
        with file.open("r+b") as kept:
            hand_over_private(folder, ALICE, "--folder")
            assert (file.read_bytes(), file.stat().st_mtime_ns) == (b"before" * 100_000, 7)
            file.write_bytes(b"later")
            assert kept.read(6) == b"before"
            kept.write(b"changed")
        assert file.read_bytes() == b"later"
        assert owners(folder) == {ALICE.uid}
        assert file.stat().st_mode & 0o777 == 0o600
        assert {path.name for path in folder.iterdir()} == {"file", "lock"}


def test_a_folder_in_use_does_not_change_hands():
    """While a process has locked the folder, everything in it keeps its owner."""
    with run_dir() as parent:
        with closing(open_private(parent / "history", "--folder")), pytest.raises(FolderInUseError):
            hand_over_private(parent / "history", ALICE, "--folder")
        assert owners(parent / "history") == {0}


HOSTILE: dict[str, Callable[[Path, Path], object]] = {
    "a symbolic link": lambda folder, other: (folder / "x").symlink_to(other),
    "a hard link": lambda folder, other: (folder / "x").hardlink_to(other),
    "a folder": lambda folder, _: (folder / "x").mkdir(),
    "a pipe": lambda folder, _: os.mkfifo(folder / "x"),
    "a lock that is a link": lambda folder, other: ((folder / "lock").unlink(), (folder / "lock").symlink_to(other)),
    "a folder that others may write": lambda folder, _: folder.chmod(0o777),
}


@pytest.mark.parametrize("made", HOSTILE.values(), ids=HOSTILE)
def test_the_former_owner_cannot_give_away_files_of_others(made):
    """A folder with another thing than files of its own is refused, and no file changes hands."""
    with run_dir() as parent:
        other, folder = parent / "other", parent / "history"
        other.touch()
        hand_over_private(folder, BOB, "--folder")
        files = [folder / str(number) for number in range(20)]  # in whatever order the folder lists them
        for file in files[:10]:
            file.touch()
        made(folder, other)
        for file in files[10:]:
            file.touch()
        with pytest.raises(SettingsError, match="--folder"):
            hand_over_private(folder, ALICE, "--folder")
        assert {path.stat().st_uid for path in (other, *files)} == {0}
        assert folder.stat().st_uid == BOB.uid


def test_a_link_to_a_folder_and_a_place_of_others_are_refused():
    """Root makes no folder behind a link, or where another user may replace it."""
    with run_dir() as parent:
        (parent / "link").symlink_to(parent)
        (parent / "open").mkdir()
        (parent / "open").chmod(0o777)
        for folder in (parent / "link", parent / "open" / "history"):
            with pytest.raises(SettingsError):
                hand_over_private(folder, ALICE, "--folder")
