from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from dnstrail.errors import BusError
from dnstrail.process.run_dir import check_run_dir, hand_over
from dnstrail.users import User
from live.processes import dnstrail, run_dir

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to change owners")
ALICE, BOB = User(1001, 1001), User(1002, 1002)


def lock_of(user: User, path: Path) -> Path:
    path.touch(0o600)
    os.chown(path, user.uid, user.gid)
    return path


def test_a_run_follows_the_run_of_another_user():
    """After a run for one user, a run for another user works in the same run-dir."""
    with run_dir() as folder:
        for user in (ALICE, BOB):
            ids = {"SUDO_UID": str(user.uid), "SUDO_GID": str(user.gid)}
            done = dnstrail("--capture", "demo", "--events", "WATCHED_NAME", "--run-dir", folder, **ids)
            assert done.returncode == 0, done.stderr
            assert folder.stat().st_uid == user.uid


def test_only_a_stale_lock_of_another_user_is_removed(tmp_path):
    """A lock that another user left behind is removed; the user's own locks stay."""
    os.chown(tmp_path, BOB.uid, BOB.gid)
    stale, own = lock_of(ALICE, tmp_path / "stale.sock.lock"), lock_of(BOB, tmp_path / "own.sock.lock")
    hand_over(tmp_path, BOB)
    assert (stale.exists(), own.exists()) == (False, True)


@pytest.mark.parametrize("holder", [ALICE, BOB])
def test_the_folder_of_a_running_pipeline_does_not_change_hands(tmp_path, holder):
    """While a process holds a lock, the folder and the lock stay as they are, whoever holds it."""
    os.chown(tmp_path, ALICE.uid, ALICE.gid)
    held = lock_of(holder, tmp_path / "held.sock.lock")
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BusError, match="another dnstrail serves here"):
            hand_over(tmp_path, BOB)
    assert (tmp_path.stat().st_uid, held.stat().st_uid) == (ALICE.uid, holder.uid)


def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path):
    """A symbolic link in place of a lock is refused, and its target stays as it is."""
    target = lock_of(ALICE, tmp_path / "target")
    folder = tmp_path / "run"
    folder.mkdir()
    os.chown(folder, BOB.uid, BOB.gid)
    (folder / "events.sock.lock").symlink_to(target)
    with pytest.raises(BusError, match="--run-dir"):
        hand_over(folder, BOB)
    assert target.stat().st_uid == ALICE.uid


def test_a_folder_with_other_files_is_refused(tmp_path):
    """A folder that contains anything except sockets is not handed over."""
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BusError, match="no sockets"):
        hand_over(tmp_path, BOB)
    assert tmp_path.stat().st_uid == 0


def test_the_files_of_the_page_change_hands(tmp_path):
    """A folder in which a page has left its link and its mutes is handed over with them."""
    left = [tmp_path / "web.link", tmp_path / "web.mutes"]
    for path in left:
        path.touch()
    hand_over(tmp_path, BOB)
    assert {path.stat().st_uid for path in left} == {BOB.uid}


def stranger(path: Path) -> Path:
    """Make a folder of another user."""
    path.mkdir()
    os.chown(path, ALICE.uid, ALICE.gid)
    return path


def open_to_all(path: Path) -> Path:
    """Make a folder in which everybody can replace everything."""
    path.mkdir()
    path.chmod(0o777)
    return path


@pytest.mark.parametrize("below", ["", "run"], ids=["the folder itself", "a folder above"])
@pytest.mark.parametrize("make", [stranger, open_to_all])
@pytest.mark.parametrize("command", [("--capture", "demo"), ("cache",)], ids=["all in one", "a worker"])
def test_a_folder_in_which_others_may_act_is_refused(command, make, below):
    """A run in a folder that clients would not believe is refused at once with one line, and the folder is kept."""
    with run_dir() as folder:
        folder.chmod(0o1777)  # as /tmp
        place = make(folder / "x")
        before = place.stat()
        done = dnstrail(*command, "--run-dir", place / below, SUDO_UID="", SUDO_GID="")
        reason = f"{place} belongs to user {ALICE.uid}" if make is stranger else f"others may write to {place}"
        assert done.returncode == 4
        assert done.stderr == f"Error: {place / below}: {reason}: choose another folder with --run-dir\n"
        assert (list(place.iterdir()), place.stat().st_uid) == ([], before.st_uid)


def test_a_user_is_refused_a_folder_in_which_others_may_act():
    """The same holds for a run of a user who is not root."""
    with run_dir() as folder:
        folder.chmod(0o755)
        place = open_to_all(folder / "x")
        with pytest.raises(BusError, match=f"others may write to {place}: choose another folder"):
            check_run_dir(place, ALICE)
