from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnstrail.captured import Process
from dnstrail.kernel.systemd_units import Unit, can_be_unit, fits_unit, is_in_unit, unit_of

ALICE = "/user.slice/user-1000.slice/user@1000.service"
NAMES = {1000: "alice", 0: "root"}
UNITS = {
    "/system.slice/ssh.service": Unit("ssh.service", "system.slice"),
    "/system.slice/ssh.service/below/deeper.service": Unit("ssh.service", "system.slice"),
    "/system.slice/system-getty.slice/getty@tty1.service": Unit("getty@tty1.service", "system-getty.slice"),
    "/init.scope": Unit("init.scope", "-.slice"),
    "/web.slice/web-shop.slice/a.service": Unit("a.service", "web-shop.slice"),
    "/user.slice/user-1000.slice/session-3.scope": Unit("session-3.scope", "user-1000.slice"),
    f"{ALICE}/app.slice/app-x.scope": Unit("alice/app-x.scope", "alice/app.slice"),
    f"{ALICE}/app.slice/app-gnome\\x2dterminal.slice/w\\x2d1.service/sub": Unit(
        "alice/w\\x2d1.service", "alice/app-gnome\\x2dterminal.slice"
    ),
    f"{ALICE}/init.scope": Unit("alice/init.scope", "alice/-.slice"),
    ALICE: Unit("user@1000.service", "user-1000.slice"),
    f"{ALICE}/any folder": Unit("user@1000.service", "user-1000.slice"),
    "/user.slice/user-0.slice/user@0.service/a.service": Unit("root/a.service", "root/-.slice"),
    "/user.slice/user-77.slice/user@77.service/a.service": Unit("77/a.service", "77/-.slice"),
    "/machine.slice/machine-a.scope/payload/system.slice/ssh.service": Unit("machine-a.scope", "machine.slice"),
    "/system.slice/_cpu.service": Unit("cpu.service", "system.slice"),  # systemd's escape for names of cgroup files
    "/system.slice/dev-disk-by\\x2dlabel-s.swap": Unit("dev-disk-by\\x2dlabel-s.swap", "system.slice"),
    "/system.slice/docker.socket": Unit("docker.socket", "system.slice"),
    "/system.slice": Unit("", "system.slice"),
    "/system.slice/plain": Unit("", "system.slice"),
}
NONE = [
    "/",
    "",
    "/docker/x",
    "/lxc.payload.web/init.scope",
    "/a b.service",
    "/.service",
    "/ssh.service\n",
    "/x/ssh.service",
]
HOSTILE = {  # what the user 1000 can make below the own manager
    "/system.slice/ssh.service": Unit("alice/ssh.service", "alice/system.slice"),
    "/ssh.service": Unit("alice/ssh.service", "alice/-.slice"),
    "/init.scope/system.slice/ssh.service": Unit("alice/init.scope", "alice/-.slice"),
    "/user.slice/user-0.slice/user@0.service/ssh.service": Unit("alice/user@0.service", "alice/user-0.slice"),
    "/bob\\x2fssh.service": Unit("alice/bob\\x2fssh.service", "alice/-.slice"),
    "/ssh.service\x1b[2J": Unit("user@1000.service", "user-1000.slice"),
    "/<img src=x>.service": Unit("user@1000.service", "user-1000.slice"),
    "/\udc80.service": Unit("user@1000.service", "user-1000.slice"),
}
WORDS = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=12)
PARTS = st.one_of(
    WORDS,
    st.sampled_from(["system.slice", "user.slice", "ssh.service", "user@0.service", "init.scope", "session-1.scope"]),
)


def root(_folder: str) -> bool:
    """Return true: every folder is root's."""
    return True


def name(uid: int) -> str:
    """Return the name of a user, else the number."""
    return NAMES.get(uid, str(uid))


def of_user(folder: str) -> bool:
    """Return whether only root can make cgroups in a folder: the manager of the user 1000 makes others."""
    return not folder.startswith(ALICE)


@pytest.mark.parametrize(("path", "unit"), UNITS.items())
def test_the_unit_of_a_path(path, unit):
    """A cgroup belongs to the unit that systemd made it for, and to the innermost slice above the unit."""
    assert unit_of(path, root, name) == unit


@pytest.mark.parametrize("path", NONE)
def test_a_path_without_a_unit(path):
    """A cgroup that systemd did not make has neither unit nor slice."""
    assert unit_of(path, root, name) == Unit()


@pytest.mark.parametrize(("below", "unit"), HOSTILE.items())
def test_a_user_makes_no_unit_of_root(below, unit):
    """A user who names cgroups like units of root, or like those of another user, gets the own name before them."""
    assert unit_of(ALICE + below, of_user, name) == unit


@pytest.mark.parametrize("path", ["/given/system.slice/ssh.service", "/given.slice/ssh.service", "/given.slice"])
def test_a_folder_that_root_gave_away_holds_no_unit(path):
    """Below a folder in which others make cgroups, no name is one of root's systemd."""
    assert unit_of(f"{path}/below", lambda folder: not folder.startswith("/given"), name).name == ""
    assert unit_of("/given.slice/ssh.service", lambda folder: folder == "/", name) == Unit()


@given(st.lists(PARTS, max_size=6))
def test_all_names_below_a_manager_carry_its_user(parts):
    """Whatever a user names cgroups, the unit is the own one, and no part of it is able to hold another user."""
    unit = unit_of("/".join([ALICE, *parts]), of_user, name)
    assert unit == Unit("user@1000.service", "user-1000.slice") or all(
        re.fullmatch(r"alice/[A-Za-z0-9:_.\\@-]+", part) for part in unit
    )


@given(st.lists(PARTS, max_size=6))
def test_a_unit_is_a_part_of_its_path(parts):
    """Of any path, the unit is a folder on it and the slice one above, and folders of others yield none."""
    path = "/" + "/".join(parts)
    found = unit_of(path, root, str)
    unit = found.name.rpartition("/")[2]
    slice_ = found.slice.rpartition("/")[2]
    assert not unit or unit in parts or f"_{unit}" in parts
    assert slice_ in {"", "-.slice", *parts}
    assert unit_of(path, lambda _: False, str) == Unit()


def test_a_name_fits_units_of_root_alone():
    """A name or pattern without a user fits no unit of a user, and one with a user none of root."""
    mine = Process(unit="alice/ssh.service", slice="alice/system.slice")
    roots = Process(unit="ssh.service", slice="system.slice")
    for given_name in ("ssh.service", "ssh*", "*.service", "*", "system.slice", "*ssh.service"):
        assert is_in_unit(roots, given_name)
        assert not is_in_unit(mine, given_name)
    for given_name in ("alice/ssh.service", "alice/*", "*/ssh.service", "alice/system.slice"):
        assert is_in_unit(mine, given_name)
        assert not is_in_unit(roots, given_name)
    assert not is_in_unit(mine, "bob/ssh.service")
    assert not fits_unit("", "", "*")


def test_what_can_be_a_unit():
    """A name without an ending of systemd's units fits nothing."""
    assert all(map(can_be_unit, ("ssh.service", "a.scope", "system.slice", "alice/web.service", "web*", "getty@?")))
    assert not any(map(can_be_unit, ("ssh", "ssh.timer", "alice")))
