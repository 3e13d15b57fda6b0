from __future__ import annotations

import os

import pytest

from dnstrail.kernel.cgroups import (
    CRI,
    PODMAN,
    container_id,
    container_of_user,
    folders_above,
    is_roots,
    owner_path,
    runtime_of,
)

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
SESSION = "/user.slice/user-1000.slice/user@1000.service"
PODS = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice"

CONTAINERS = {
    "Docker with systemd": f"/system.slice/docker-{ID}.scope",
    "Docker with systemd below a slice of its own": f"/web.slice/web-shop.slice/docker-{ID}.scope",
    "Docker with cgroupfs": f"/docker/{ID}",
    "a program with a cgroup of its own in Docker": f"/system.slice/docker-{ID}.scope/init.scope",
    "Podman of root": f"/machine.slice/libpod-{ID}.scope",
    "Podman of root, below the scope": f"/machine.slice/libpod-{ID}.scope/container",
    "Podman of root with a pod": f"/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope",
    "Podman of root with cgroupfs": f"/libpod_parent/libpod-{ID}",
    "Podman of root in a unit": f"/system.slice/web.service/libpod-payload-{ID}",
    "containerd in Kubernetes with systemd": f"{PODS}/cri-containerd-{ID}.scope",
    "containerd in Kubernetes with cgroupfs": f"/kubepods/burstable/pod1-2-3/{ID}",
    "containerd in Kubernetes with cgroupfs, guaranteed": f"/kubepods/pod1-2-3/{ID}",
    "containerd with cgroupfs, kubelet with systemd": (
        f"/system.slice/containerd.service/kubepods-burstable-pod1.slice:cri-containerd:{ID}"
    ),
    "CRI-O": f"{PODS}/crio-{ID}.scope",
    "CRI-O, below the scope": f"{PODS}/crio-{ID}.scope/container",
    "CRI-O with cgroupfs": f"/kubepods/besteffort/pod1-2-3/crio-{ID}",
    "nerdctl": f"/system.slice/nerdctl-{ID}.scope",
    "Docker in Docker": f"/system.slice/docker-{ID}.scope/docker/{OTHER}",
    "Docker with cgroupfs in Docker with cgroupfs": f"/docker/{ID}/docker/{OTHER}/init.scope",
    "Kubernetes in Docker": f"/docker/{ID}/kubelet.slice{PODS}/cri-containerd-{OTHER}.scope",
}
STEP = "gd1j9twh7cd9vmfq78ofk2lr3"
STEPS = {
    "BuildKit in Docker with cgroupfs": f"/docker/buildkit/{STEP}",
    "BuildKit in Docker with systemd": f"/system.slice/docker-{STEP}.scope",
}
NONE = {
    "the root": "/",
    "a service": "/system.slice/ssh.service",
    "LXC": "/lxc.payload.web/init.scope",
    "Docker in LXC": f"/lxc.payload.web/system.slice/docker-{ID}.scope",
    "Docker with cgroupfs in LXC": f"/lxc/web/docker/{ID}",
    "Podman of a user": f"{SESSION}/user.slice/libpod-{ID}.scope/container",
    "Docker of a user": f"{SESSION}/user.slice/docker-{ID}.scope",
    "a folder of a user": f"{SESSION}/docker-{ID}.scope",
    "a service with the name": f"/system.slice/docker-{ID}.service",
    "a service that makes folders": f"/system.slice/web.service/docker-{ID}.scope",
    "an unknown place": f"/web/{ID}",
    "the monitor of Podman": f"/machine.slice/libpod-conmon-{ID}.scope",
    "a short id": f"/docker/{ID[:-1]}",
    "a long id": f"/docker/{ID}0",
    "BuildKit itself": "/docker/buildkit",
    "a step of a build in an unknown place": f"/buildkit/{STEP}",
    "a short id of a step": f"/docker/buildkit/{STEP[:-1]}",
    "a long id of a step": f"/docker/buildkit/{STEP}0",
    "no id": f"/docker/{ID.upper()}",
    "a line break": f"/docker/{ID}\n",
}


def root(_folder: str) -> bool:
    """Return true: every folder is root's."""
    return True


@pytest.mark.parametrize("path", CONTAINERS.values(), ids=CONTAINERS)
def test_the_engines_of_root_name_their_containers(path):
    """The cgroup of a container has its id; of nested containers the outermost counts."""
    assert container_id(path, root) == ID


@pytest.mark.parametrize(("case", "path"), CONTAINERS.items(), ids=CONTAINERS)
def test_the_cgroup_of_a_container_names_its_runtime(case, path):
    """The outermost container counts. nerdctl has no interface that could be asked."""
    runtimes = {"Docker": "docker", "Podman": PODMAN, "containerd": CRI, "CRI-O": CRI, "nerdctl": ""}
    first = "Docker" if "in Docker" in case else case.split()[0].rstrip(",")
    assert runtime_of(path) == runtimes[first]
    assert runtime_of("/system.slice/ssh.service") == runtime_of(STEPS["BuildKit in Docker with systemd"]) == ""


@pytest.mark.parametrize("path", STEPS.values(), ids=STEPS)
def test_a_step_of_a_build_is_a_container(path):
    """The cgroup of a step of `docker build` has the id that BuildKit gave it, if the folders above it are root's."""
    assert container_id(path, root) == STEP
    assert container_id(path, lambda folder: folder == "/") == ""


@pytest.mark.parametrize("path", NONE.values(), ids=NONE)
def test_other_paths_name_no_container(path):
    """A path in no known place names no container, although it contains the id of one."""
    assert container_id(path, root) == ""


@pytest.mark.parametrize("path", CONTAINERS.values(), ids=CONTAINERS)
def test_folders_above_a_container_are_roots(path):
    """A container counts only if every folder above its own is root's; its own folder can belong to another user."""
    above = {path[:end] or "/" for end in range(path.index(ID)) if path[end] == "/"}
    assert container_id(path, above.__contains__) == ID
    for folder in above:
        assert container_id(path, (above - {folder}).__contains__) == ""


OF_USER = {
    "Podman": f"{SESSION}/user.slice/libpod-{ID}.scope",
    "Podman, below the scope": f"{SESSION}/user.slice/libpod-{ID}.scope/container",
    "Podman with cgroupfs": f"{SESSION}/any name/libpod-{ID}",
    "Podman in a unit": f"{SESSION}/app.slice/web.service/libpod-payload-{ID}",
    "Podman in Podman": f"{SESSION}/user.slice/libpod-{ID}.scope/user.slice/libpod-{OTHER}.scope",
    "Podman directly below": f"{SESSION}/libpod-{ID}",
}
OF_NO_USER = {
    "the monitor of Podman": f"{SESSION}/user.slice/libpod-conmon-{ID}.scope",
    "Docker": f"{SESSION}/user.slice/docker-{ID}.scope",
    "a short id": f"{SESSION}/user.slice/libpod-{ID[:-1]}.scope",
    "a longer name": f"{SESSION}/user.slice/libpod-{ID}.scope.d",
    "a line break": f"{SESSION}/user.slice/libpod-{ID}\n",
    "a session": f"/user.slice/user-1000.slice/session-3.scope/libpod-{ID}.scope",
    "no number": f"/user.slice/user@x.service/libpod-{ID}.scope",
    "digits of another script": f"/user.slice/user@\u0661.service/libpod-{ID}.scope",
    "a long number": f"/user.slice/user@{'1' * 11}.service/libpod-{ID}.scope",
    "a manager below a service": f"/system.slice/web.service/user@1000.service/libpod-{ID}.scope",
    "many folders": f"{SESSION}{'/libpod-' * 500}",
    "Podman of root": f"/machine.slice/libpod-{ID}.scope",
}


@pytest.mark.parametrize("path", OF_USER.values(), ids=OF_USER)
def test_a_container_of_a_user(path):
    """The systemd above a container names its user. A user who can make folders above it can have chosen the number."""
    above = {*folders_above(SESSION)}
    assert container_of_user(path, above.__contains__) == (1000, ID)
    for folder in above:
        assert container_of_user(path, (above - {folder}).__contains__) is None


@pytest.mark.parametrize("path", OF_NO_USER.values(), ids=OF_NO_USER)
def test_other_paths_are_containers_of_no_user(path):
    """A path in no known place is no container of a user, although it contains an id."""
    assert container_of_user(path, root) is None


DOCKER = f"/system.slice/docker-{ID}.scope"
POD = f"{PODS}/cri-containerd-{ID}.scope"
UNIT = "/system.slice/web.service"
MINE = "/user.slice/user-1000.slice"
OWNERS = {
    "a container": (DOCKER, (), DOCKER),
    "a --privileged container that makes cgroups": (f"{DOCKER}/mine/17", (), DOCKER),
    "a container whose root is another user": (f"{DOCKER}/mine", (DOCKER,), DOCKER),
    "a container in a container": (f"{DOCKER}/docker/{OTHER}", (), DOCKER),
    "systemd in a container": (f"{DOCKER}/user.slice/user-1000.slice/session-1.scope", (), DOCKER),
    "a step of a build": (f"/docker/buildkit/{STEP}/mine", (), f"/docker/buildkit/{STEP}"),
    "a pod": (POD, (), POD),
    "a pod that makes cgroups": (f"{POD}/mine", (), POD),
    "Podman of root in a unit": (f"{UNIT}/libpod-payload-{ID}/x", (), f"{UNIT}/libpod-payload-{ID}"),
    "the first container of a user without root": (
        f"{SESSION}/user.slice/libpod-{ID}.scope/container",
        (SESSION, f"{SESSION}/user.slice"),
        MINE,
    ),
    "the second one": (f"{SESSION}/user.slice/libpod-{OTHER}.scope/container", (SESSION,), MINE),
    "a unit of a user": (f"{SESSION}/app.slice/run-r1.service", (SESSION,), MINE),
    "a container of root in the slice of a user": (f"{MINE}/docker-{ID}.scope", (), MINE),
    **{f"session {number}": (f"{MINE}/session-{number}.scope", (), MINE) for number in (1, 2, 30)},
    "the slice of a user": (MINE, (), MINE),
    "the slice of all users": ("/user.slice", (), "/user.slice"),
    "the slice of all users, given away": (f"{MINE}/session-1.scope", ("/user.slice",), "/user.slice"),
    "a unit": (UNIT, (), UNIT),
    "a part of a unit": (f"{UNIT}/worker", (), f"{UNIT}/worker"),
    "a delegated unit": (UNIT, (UNIT,), UNIT),
    "a part of a delegated unit": (f"{UNIT}/worker/1", (UNIT,), UNIT),
    "a delegated unit in a delegated slice": ("/a.slice/b.service/c", ("/a.slice", "/a.slice/b.service"), "/a.slice"),
    "a name of a container in a delegated unit": (f"{UNIT}/libpod-payload-{ID}", (UNIT,), UNIT),
    "a name of a container in a delegated slice": (f"/a.slice/docker-{ID}.scope", ("/a.slice",), "/a.slice"),
    "a name of a user in a delegated slice": ("/a.slice/user-0.slice/x", ("/a.slice",), "/a.slice"),
    "a name of no user": ("/user.slice/user-x.slice/y", (), "/user.slice/user-x.slice/y"),
    "a number that is no user": ("/user.slice/user-\u0661.slice/y", (), "/user.slice/user-\u0661.slice/y"),
    "LXC": ("/lxc.payload.web/init.scope", (), "/lxc.payload.web/init.scope"),
    "LXC of a user": ("/lxc.payload.web/init.scope", ("/lxc.payload.web",), "/lxc.payload.web"),
    "the root": ("/", (), "/"),
    "a root that is not root's": (f"{DOCKER}/mine", ("/",), "/"),
}


@pytest.mark.parametrize(("path", "given_away", "owner"), OWNERS.values(), ids=OWNERS)
def test_the_owner_of_a_cgroup(path, given_away, owner):
    """The owner is the outermost container of root, slice of a user or folder of others above a cgroup, else itself."""
    assert owner_path(path, lambda folder: folder not in given_away) == owner


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
@pytest.mark.parametrize(
    ("owner", "mode", "expected"), [(0, 0o755, True), (60_543, 0o755, False), (0, 0o775, False), (0, 0o757, False)]
)
def test_a_folder_is_roots_if_no_other_user_can_write_to_it(tmp_path, owner, mode, expected):
    """A folder counts as root's if root owns it, and neither a group nor others can make folders in it."""
    folder = tmp_path / "x.slice"
    folder.mkdir()
    os.chown(folder, owner, owner)
    folder.chmod(mode)
    assert is_roots(str(tmp_path), "/x.slice") is expected
    assert not is_roots(str(tmp_path), "/y.slice")
