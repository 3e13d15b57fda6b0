from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from dnstrail.kernel.cgroups import PODMAN, PODMAN_OF_USERS, cgroup_id, find_cgroup2, is_roots
from dnstrail_probe.host.containers import GONE, MAX_PATH, REMEMBERED, Containers
from live.ebpf_source import cgroup
from live.namespaces import live_or_skip

ID = "0123456789abcdef" * 4
OTHER = "f" * 64


OF_USER = "/user.slice/user-7.slice/user@7.service/user.slice"
USER = 60_543  # no other process of this host has it
SECOND = 1_000_000_000


def root(_folder: str) -> bool:
    """Return true: every folder is root's."""
    return True


def gone(_folder: str) -> int:
    """Return no id: no folder is there."""
    return 0


def test_a_removed_cgroup_is_kept_for_a_minute():
    """The container of a removed cgroup is found for a minute, for late events."""
    containers = Containers(root, gone)
    containers.made(5, f"/docker/{ID}", 1)
    containers.removed(5, 1)
    containers.removed(6, 1 + REMEMBERED)
    assert containers.of(5) == ID
    containers.removed(6, 2 + REMEMBERED)
    assert containers.of(5) is None


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        (f"/system.slice/docker-{ID}.scope/system.slice/ssh.service", ("", "")),
        (f"/machine.slice/libpod-{ID}.scope", ("", "")),
        (f"/system.slice/containerd.service/pod:cri-containerd:{ID}", ("", "")),
        (f"/system.slice/web.service/libpod-payload-{ID}", ("web.service", "system.slice")),
        (f"/system.slice/web.service/libpod-payload-{OTHER}/docker/{ID}", ("web.service", "system.slice")),
        ("/user.slice/user-7.slice/user@7.service/a.service", ("name of 7/a.service", "name of 7/-.slice")),
        (f"{OF_USER}/libpod-{ID}.scope", (f"name of 7/libpod-{ID}.scope", "name of 7/user.slice")),
    ],
)
def test_a_container_is_no_unit(path, unit):
    """A container of root has no unit, unless it runs in a service; a service below it is none of the host.

    A user can name any cgroup like a container, and leaves no unit of this user by it.
    """
    containers = Containers(root, gone, user_name="name of {}".format)
    containers.made(5, path, 1)
    assert containers.unit(5) == unit
    assert containers.unit(6) == ("", "")


def test_a_container_of_a_user_has_the_user_in_its_id():
    """A user who takes the id of a container of root has another one; all of them have one owner."""
    containers = Containers(root, {"/user.slice/user-7.slice": 3}.get, user_name="name of {}".format)
    containers.made(5, f"{OF_USER}/libpod-{ID}.scope/container", 1)
    containers.made(6, f"/machine.slice/libpod-{ID}.scope", 1)
    assert [(containers.of(one), containers.runtime(one)) for one in (5, 6)] == [
        (f"name of 7/{ID}", PODMAN_OF_USERS),
        (ID, PODMAN),
    ]
    assert containers.owner(5, 1) == 3


def test_cgroup_of_the_host_is_known_and_no_container():
    """A cgroup of the host yields "", an unknown cgroup None."""
    containers = Containers(root, gone)
    containers.made(1, "/system.slice", 1)
    assert (containers.of(1), containers.of(2)) == ("", None)


def test_cgroups_are_bounded_and_counted():
    """Beyond the bound the oldest cgroup is evicted and counted; removals are bounded as well."""
    containers = Containers(root, gone, most=3)
    for number in range(1, 6):
        containers.made(number, "/x", 1)
        containers.removed(99, number)
    assert (len(containers), containers.dropped, containers.of(1), containers.of(5)) == (3, 2, None, "")
    assert len(containers._removed) <= 3


def test_cgroups_that_a_user_makes_evict_no_others():
    """A user who makes cgroups without end, and removes them or not, evicts own ones: first those that are gone."""
    containers = Containers(lambda folder: folder != "/mine", lambda _folder: 5, most=10)
    for number in (1, 2, 3):
        containers.made(number, f"/docker/{ID}", 1)
    for number in range(100, 200):
        containers.made(number, f"/mine/{number}", 1)
        containers.removed(number, 2)
    containers.made(4, "/docker/late", 1)
    for number in range(200, 300):
        containers.made(number, f"/mine/{number}", 1)
    assert [containers.of(number) for number in (1, 2, 3, 4)] == [ID, ID, ID, ""]
    assert (len(containers), containers.dropped) == (10, 194)
    assert containers.owner(299, 1) == 5
    assert set(containers._below) < set(containers._cgroups)


def test_the_beginning_of_a_path_is_kept():
    """A path is kept up to a bound; the path of an unknown cgroup is ""."""
    containers = Containers(root, gone)
    containers.made(1, f"/{'x' * 1000}", 1)
    assert len(containers.path(1)) == MAX_PATH
    assert containers.path(2) == ""


def test_any_path_is_text():
    """A user can name a cgroup with any bytes: those that are not UTF-8 are escaped, so that a turn can carry them."""
    containers = Containers(root, gone)
    containers.made(1, os.fsdecode(b"/\xff"), 1)
    assert containers.path(1) == "/\\xff"


def test_the_cgroups_in_a_container_have_one_owner():
    """A container that makes cgroups (`docker run --privileged`) is the owner of each; without folder they are gone."""
    ids = {f"/docker/{ID}": 7}
    containers = Containers(root, lambda folder: ids.get(folder, 0))
    containers.made(7, f"/docker/{ID}", 1)
    containers.made(8, f"/docker/{ID}/mine", 1)
    containers.made(9, f"/docker/{OTHER}/mine", 1)
    assert [containers.owner(each, 2) for each in (7, 8, 9, 10)] == [7, 7, GONE, GONE]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a cgroup that root made."""
    live_or_skip()
    with cgroup("dnstrail-owner.slice") as made:
        yield made


@pytest.fixture
def owners() -> Containers:
    """Return a table of this host."""
    hierarchy = str(find_cgroup2())
    return Containers(partial(is_roots, hierarchy), partial(cgroup_id, hierarchy))


def made(owners: Containers, folder: Path) -> int:
    """Make a cgroup, unless it is there, and add it to a table; return its id."""
    folder.mkdir(exist_ok=True)
    found = folder.stat().st_ino
    owners.made(found, str(folder).removeprefix(str(find_cgroup2())), 0)
    return found


def test_a_delegated_cgroup_owns_those_below(folder, owners):
    """The cgroups below one that is not root's have this owner, whatever their names; root's own have themselves."""
    with cgroup(f"{folder.name}/web.service") as service, cgroup(f"{folder.name}/ssh.service") as other:
        os.chown(service, USER, USER)
        units = [made(owners, each) for each in (folder, service, other)]
        assert [owners.owner(each, 0) for each in units] == units
        for name in ("a", f"docker-{ID}.scope", "user-0.slice", os.fsdecode(b"\xff")):
            with cgroup(f"{folder.name}/web.service/{name}") as below:
                assert owners.owner(made(owners, below), 0) == units[1]


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_cgroup_that_others_may_write_owns_those_below(folder, owners, mode):
    """A cgroup of root in which others can make cgroups is the owner of these."""
    folder.chmod(mode)
    with cgroup(f"{folder.name}/below") as below:
        assert owners.owner(made(owners, below), 0) == folder.stat().st_ino


def test_a_delegation_after_a_cgroup_was_seen(folder, owners):
    """Root gives a folder away that is known: a second later it owns the cgroups below."""
    with cgroup(f"{folder.name}/below") as below:
        known, last = made(owners, folder), made(owners, below)
        os.chown(folder, USER, USER)
        assert [owners.owner(last, now) for now in (SECOND, SECOND + 1)] == [last, known]
        assert owners.owner(known, SECOND + 1) == known


def test_a_removed_cgroup_keeps_its_owner(folder, owners):
    """The late events of a removed cgroup have the owner that it had; the folder of the owner can be gone, too."""
    with cgroup(f"{folder.name}/web.service") as service:
        os.chown(service, USER, USER)
        with cgroup(f"{folder.name}/web.service/below") as below:
            last = made(owners, below)
        known = service.stat().st_ino
        assert owners.owner(last, 2 * SECOND) == known
    assert owners.owner(last, 4 * SECOND) == known


def test_a_cgroup_that_is_gone_at_the_first_look(folder, owners):
    """Its owner is the folder above that was given away, or else an owner that all such cgroups share."""
    with cgroup(f"{folder.name}/web.service") as service:
        os.chown(service, USER, USER)
        path = str(service).removeprefix(str(find_cgroup2()))
        for cgroup_number in (1, 2):
            owners.made(cgroup_number, f"{path}/below{cgroup_number}", 0)
        known = service.stat().st_ino
    owners.made(3, f"{path}/below3", 0)
    assert [owners.owner(each, 0) for each in (1, 2, 3)] == [known, known, GONE]


def test_a_folder_of_root_with_odd_bytes(folder, owners):
    """Root may use any bytes, too: a cgroup below such a folder has itself as its owner."""
    name = os.fsdecode(b"\xff")
    with cgroup(f"{folder.name}/{name}"), cgroup(f"{folder.name}/{name}/below") as below:
        last = made(owners, below)
        assert owners.owner(last, 2 * SECOND) == last


def test_owners_are_passed_on():
    """Each cgroup is passed on with its owner, and again once the owner is another one."""
    mine: set[str] = set()
    passed = []
    containers = Containers(
        lambda folder: folder not in mine, lambda _folder: 5, note_owner=lambda *pair: passed.append(pair)
    )
    containers.made(7, "/user/one", 1)
    assert containers.owner(7, SECOND) == 7
    mine.add("/user")
    assert containers.owner(7, 3 * SECOND) == 5
    assert containers.owner(7, 6 * SECOND) == 5
    assert passed == [(7, 7), (7, 5)]
