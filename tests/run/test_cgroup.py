"""The place of a command's cgroup, on folders in the shape of the hierarchy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dnstrail_run import cgroup
from dnstrail_run.cgroup import make_cgroup, names_of


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Yield the cgroup of this process, which is delegated to a user as the one above it is."""
    folder = tmp_path / "user.slice/session/app"
    folder.mkdir(parents=True)
    for each, mode in ((tmp_path, 0o644), (folder.parents[1], 0o644), (folder.parent, 0o664), (folder, 0o666)):
        (each / "cgroup.procs").touch()
        (each / "cgroup.procs").chmod(mode)
        os.chown(each / "cgroup.procs", 0, 0) if os.geteuid() == 0 else None
    monkeypatch.setattr(cgroup, "find_cgroup2", lambda: str(tmp_path))
    monkeypatch.setattr(cgroup, "_own_cgroup", lambda _root: folder)
    return folder


@pytest.mark.parametrize("mode", [0o666, 0o644])
def test_a_guarded_cgroup_is_out_of_the_users_reach(own, mode):
    """A guarded cgroup has no delegated one above it, also if the own one is root's; another one is below the own."""
    if os.geteuid() != 0:
        pytest.skip("needs files of root")
    assert make_cgroup().path.parent == own
    (own / "cgroup.procs").chmod(mode)
    assert make_cgroup(guarded=True).path.parent == own.parents[1]


def test_the_root_is_the_last_place(own, tmp_path):
    """If every cgroup is delegated, the guarded one is below the root of the hierarchy."""
    for folder in (tmp_path, *own.parents[:2]):
        (folder / "cgroup.procs").chmod(0o666)
    assert make_cgroup(guarded=True).path.parent == tmp_path


def test_abandoned_cgroups_are_removed(own):
    """The empty cgroups of runs whose launcher has ended are removed; those of others stay."""
    ended = own / "dnstrail-run-4194305"  # above the largest pid
    running = own / f"dnstrail-run-{os.getppid()}"
    other = own / "other"
    for folder in (ended, ended / "below", running, other):
        folder.mkdir()
    made = make_cgroup()
    assert {each.name for each in own.iterdir()} == {"cgroup.procs", running.name, other.name, made.path.name}


def test_a_cgroup_that_another_run_removes_meanwhile_is_left_alone(own):
    """A cgroup that is gone once it was listed ends no run that begins."""
    (own / "dnstrail-run-4194305").symlink_to("removed")
    assert make_cgroup().path.parent == own


def test_some_processes_are_named(monkeypatch):
    """At most MOST_NAMED processes are named; one that has ended has no name."""
    monkeypatch.setattr(cgroup, "MOST_NAMED", 2)
    own = Path("/proc/self/comm").read_text().rstrip()
    assert names_of([os.getpid(), 1 << 23, os.getpid()]) == [f"{own}({os.getpid()})"]
