"""A temporary folder is removed at its end; the next one removes those of processes that were killed, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dnstrail.temporary_folder import temporary_folder

PREFIX = "dnstrail-some-"
KILLED = f"""
import os, signal
from dnstrail.temporary_folder import temporary_folder
with temporary_folder({PREFIX!r}) as folder:
    (folder / "below").mkdir()
    (folder / "below" / "file").touch()
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of all temporary folders."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def killed() -> Path:
    """Return the folder of a process that was killed."""
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    return Path(done.stdout.strip())


def test_a_folder_is_private_and_removed_at_its_end(above):
    """Only this user can open it; a folder that is gone already is no error."""
    with temporary_folder(PREFIX) as folder:
        (folder / "file").touch()
        assert (folder.parent, folder.stat().st_mode & 0o777) == (above, 0o700)
    with temporary_folder(PREFIX) as folder:
        folder.rmdir()
    assert not [*above.iterdir()]


def test_folders_of_killed_processes_are_removed(above):
    """The next folder removes that of a killed process with all below, and keeps one that is in use."""
    left = killed()
    assert (left / "below" / "file").exists()
    with temporary_folder(PREFIX) as used:
        assert not left.exists()
        with temporary_folder(PREFIX) as other, temporary_folder("dnstrail-other-"):
            assert used.exists()
            assert other != used
    assert not [*above.iterdir()]


def test_only_own_folders_with_this_prefix_are_removed(above):
    """A file, a link, and a folder with another prefix stay."""
    elsewhere = above / "elsewhere"
    elsewhere.mkdir()
    (above / f"{PREFIX}link").symlink_to(elsewhere)
    (above / f"{PREFIX}file").touch()
    (above / "dnstrail-other-1").mkdir()
    before = {*above.iterdir()}
    with temporary_folder(PREFIX):
        pass
    assert {*above.iterdir()} == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
def test_folders_of_others_stay(above):
    """A folder of another user stays, unless this user is named."""
    left = killed()
    os.chown(left, 61_000, 61_000)
    with temporary_folder(PREFIX):
        assert left.exists()
    with temporary_folder(PREFIX, [61_000]):
        assert not left.exists()


def test_a_folder_that_is_removed_before_its_lock_is_made_anew(above, monkeypatch):
    """Another process can take a new folder for an abandoned one: then there is a second one."""
    made, tries = tempfile.mkdtemp, []

    def removed_once(**options: str) -> str:
        folder = made(**options)
        if not tries:
            Path(folder).rmdir()
        tries.append(folder)
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", removed_once)
    with temporary_folder(PREFIX) as folder:
        assert [str(folder)] == tries[1:]
        assert folder.exists()
