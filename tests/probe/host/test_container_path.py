from __future__ import annotations

import os

import pytest

from dnstrail_probe.host.cgroups import is_roots
from dnstrail_probe.host.container_path import container_id

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
