"""Programs whose files give rights that their user lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from dnstrail_run import followed as module
from dnstrail_run.followed import Executed, first_privileged
from live.processes import run_dir

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
USER, OTHER = 60_543, 60_544
HERE = Path("/proc/self/ns/mnt").stat().st_ino


def found(path: Path, *, user: int = USER, where: int = HERE) -> bool:
    """Return whether a program is found."""
    return first_privileged([Executed("/bin/true", USER, HERE), Executed(str(path), user, where)], {HERE}) == str(path)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return a program of another user, without rights of its own."""
    path = tmp_path / "program"
    shutil.copy("/bin/true", path)
    os.chown(path, OTHER, OTHER)
    return path


@pytest.mark.parametrize(
    ("mode", "user", "is_found"),
    [
        (0o755, USER, False),
        (0o4755, USER, True),
        (0o4755, OTHER, False),  # its owner gains nothing
        (0o4755, 0, False),  # nor does root
        (0o2755, USER, True),
        (0o2745, USER, False),  # without execution by the group it is no set-id bit: execve(2) ignores it
    ],
)
def test_set_id_bits(program, mode, user, is_found):
    """A set-id program of another user gives rights, in the mount namespace of dnstrail alone."""
    program.chmod(mode)
    assert found(program, user=user) is is_found
    assert not found(program, user=user, where=HERE + 1)


def test_file_capabilities(program):
    """A file with capabilities gives rights, except to root."""
    os.setxattr(program, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    assert found(program)
    assert not found(program, user=0)


def test_a_mount_without_set_id(program):
    """A file gives no rights where the mount is `nosuid`."""
    with run_dir() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid", "none", folder], check=True)
        try:
            os.chown(shutil.copy(program, folder), OTHER, OTHER)
            (folder / "program").chmod(0o4755)
            assert not found(folder / "program")
        finally:
            subprocess.run(["umount", folder], check=True)


def test_the_first_one_is_found(program, tmp_path):
    """Of several programs the one that ran first is found, and those that are gone are passed over."""
    program.chmod(0o4755)
    second = tmp_path / "second"
    shutil.copy(program, second)
    second.chmod(0o4755)
    ran = [Executed(str(path), USER, HERE) for path in (tmp_path / "gone", Path("\\xff"), second, program)]
    assert first_privileged(ran, {HERE}) == str(second)


def test_a_file_system_that_hangs_costs_a_bounded_time(monkeypatch):
    """The search is given up after its bound."""
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    hangs = threading.Event()
    try:
        monkeypatch.setattr(module, "_gives_rights", lambda *_: hangs.wait())
        assert first_privileged([Executed("/bin/true", USER, HERE)], {HERE}) == ""
    finally:
        hangs.set()
