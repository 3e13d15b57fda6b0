"""A containerd with a folder of its own, and a client of its Container Runtime Interface that makes pods."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc

from dnstrail_probe.formats.protobuf import read_fields
from live.cri_messages import message
from live.docker_daemon import UPSTREAM, network_namespace
from live.namespaces import dnsmasq
from live.processes import PATIENCE, run_dir, wait_until

CONTAINERD_TOOLS = ("containerd", "ctr", "runc", "gcc", "nsenter")
_CGROUPS = Path("/sys/fs/cgroup")
IMAGE = "localhost/dnstrail-resolve:1"
_PAUSE = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
# crun refuses a host that has controllers both in cgroup v1 and v2.
_CGROUP2_ALONE = ("unshare", "--mount", "sh", "-c", 'mount -t cgroup2 none /sys/fs/cgroup && exec "$0" "$@"')
# Removes limits of controllers that cgroup2 does not have there from the settings of a container, and calls crun.
_CRUN = """#!/bin/sh
for part; do
    [ "$last" = --bundle ] && sed -i 's/"cpu":{"shares":[0-9]*}/"cpu":{}/' "$part/config.json"
    last=$part
done
exec crun "$@"
"""
_NETWORK_OF_NODE = 2
_EXITED = 2
_MANY = 1 << 20  # fields of a message
_CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
address = "{folder}/s"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{program}"
"""


class Containerd:
    """A running containerd. Messages and fields are those of k8s.io/cri-api/pkg/apis/runtime/v1/api.proto."""

    def __init__(self, folder: Path, namespace: str, process: subprocess.Popen[bytes]) -> None:
        self.socket = socket = folder / "s"
        self.process = process
        program = folder / "image-root/resolve"
        # A command that sends one query outside of all containers; the name follows.
        self.resolver = ("nsenter", f"--net=/run/netns/{namespace}", program, UPSTREAM, "53", "udp")
        self._pods: dict[str, str] = {}  # their sandboxes by name
        self._channel = grpc.insecure_channel(f"unix://{socket}")

    def make_pod(self, name: str, namespace: str, **labels: str) -> tuple[str, bytes]:
        """Run the sandbox of a pod in the network of the daemon; return its id and its settings."""
        metadata = message((1, name), (2, f"uid-{name}"), (3, namespace))
        security = message((1, message((1, _NETWORK_OF_NODE))))
        stated = [(6, message((1, key), (2, value))) for key, value in labels.items()]
        config = message((1, metadata), *stated, (8, message((1, f"/kubepods/pod{name}"), (2, security))))
        self._pods[name] = sandbox = self._id("RunPodSandbox", (1, config))
        return sandbox, config

    def resolve(self, pod: tuple[str, bytes], container: str, name: str) -> str:
        """Send one query in a new container of a pod, which ends when it has the response; return its id."""
        made = self.make_resolver(pod, container, name)
        self.start(made)
        return made

    def make_resolver(self, pod: tuple[str, bytes], container: str, name: str) -> str:
        """Make a container of a pod that will send one query; return its id."""
        sandbox, sandbox_config = pod
        command = [(3, part) for part in ("/resolve", UPSTREAM, "53", "udp", name)]
        security = message((3, message((1, _NETWORK_OF_NODE))))
        image = message((1, IMAGE), (18, IMAGE))  # found by, and as it was written: a kubelet states both
        settings = [(1, message((1, container))), (2, image), *command, (15, message((2, security)))]
        return self._id("CreateContainer", (1, sandbox), (2, message(*settings)), (3, sandbox_config))

    def start(self, container: str) -> None:
        """Start a container."""
        self._call("StartContainer", (1, container))

    def stop_pod(self, pod: tuple[str, bytes]) -> None:
        """End what is left of a pod. The runtime still lists its containers."""
        self._call("StopPodSandbox", (1, pod[0]))

    def listed(self) -> dict[str, tuple[str, str]]:
        """Return name and image of each container by its id, as the runtime lists containers and pods."""
        pods = {}
        for pod in _parts(self._call("ListPodSandbox"), 1):
            metadata = _part(pod, 2)
            pods[_part(pod, 1)] = f"{_text(metadata, 1)}.{_text(metadata, 3)}"
        containers = _parts(self._call("ListContainers"), 1)
        return {
            _text(one, 1): (f"{_text(_part(one, 3), 1)}.{pods[_part(one, 2)]}", _text(_part(one, 4), 1))
            for one in containers
        }

    def lifetime(self, container: str) -> float | None:
        """Return the seconds from the start of a container to its end as the runtime noticed them; None until then."""
        status, _ = read_fields(_part(self._call("ContainerStatus", (1, container)), 1), _MANY)
        return max(status[6] - status[5], 0) / 1e9 if status.get(3) == _EXITED else None

    def remove_pods(self) -> None:
        """End the pods, and remove the cgroups above theirs from all hierarchies, as a kubelet would."""

        def remove(sandbox: str) -> None:
            self._call("StopPodSandbox", (1, sandbox))
            self._call("RemovePodSandbox", (1, sandbox))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(remove, self._pods.values()))
        for top in (*_CGROUPS.glob("kubepods"), *_CGROUPS.glob("*/kubepods")):
            for folder in (*(top / f"pod{name}" for name in self._pods), top):
                with suppress(OSError):  # others are in it
                    folder.rmdir()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _id(self, method: str, *fields: tuple[int, Any]) -> str:
        """Return the id that a reply begins with."""
        reply = self._call(method, *fields)
        assert reply[0] == 1 << 3 | 2
        return reply[2 : 2 + reply[1]].decode()

    def _call(self, method: str, *fields: tuple[int, Any]) -> bytes:
        call = self._channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
        return bytes(call(message(*fields), timeout=PATIENCE))


def _parts(message_: bytes, field: int) -> list[bytes]:
    """Return the byte strings of a repeated field."""
    found: dict[int, list[bytes]] = {field: []}
    read_fields(message_, _MANY, found)
    return found[field]


def _part(message_: bytes, field: int) -> bytes:
    return _parts(message_, field)[-1]


def _text(message_: bytes, field: int) -> str:
    return _part(message_, field).decode()


@contextmanager
def containerd(program: str = "runc", snapshotter: str = "native", place: Path = Path("/tmp")) -> Iterator[Containerd]:
    """Run a containerd in a network namespace with a DNS server. Its mounts and cgroups end with it.

    `program` makes the containers, as runc does, and `place` holds the folder of the containerd.
    """
    with (
        network_namespace() as namespace,
        run_dir(place) as folder,
        dnsmasq(namespace, UPSTREAM, 53, "/test/192.0.2.1"),
    ):
        if program == "crun":
            program = str(folder / "crun")
            Path(program).write_text(_CRUN)
            Path(program).chmod(0o755)
        settings = {"folder": folder, "image": IMAGE, "program": program, "snapshotter": snapshotter}
        (folder / "config").write_text(_CONFIG.format_map(settings))
        command = ["nsenter", f"--net=/run/netns/{namespace}", *(_CGROUP2_ALONE if program != "runc" else ())]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [*command, "containerd", "--config", str(folder / "config")], stdout=log, stderr=log
            )
        client = ["ctr", "--address", str(folder / "s"), "--namespace", "k8s.io"]
        found = Containerd(folder, namespace, process)
        try:
            ready = [*client, "version"]
            wait_until(lambda: subprocess.run(ready, capture_output=True, check=False).returncode == 0, "containerd")
            image = str(_image(folder))
            subprocess.run(
                [*client, "images", "import", "--snapshotter", snapshotter, image], check=True, capture_output=True
            )
            yield found
        finally:
            with suppress(grpc.RpcError):  # it hangs or is gone: the failure of the test is the one to show
                found.remove_pods()
            found.close()
            process.terminate()
            process.wait(PATIENCE)


def _image(folder: Path) -> Path:
    """Write an image with the programs `/resolve` and `/pause` as `docker save` does."""
    root = folder / "image-root"
    root.mkdir()
    (folder / "pause.c").write_text(_PAUSE)
    for name, source in (("resolve", Path(__file__).with_name("resolve.c")), ("pause", folder / "pause.c")):
        subprocess.run(["gcc", "-static", "-O1", "-o", root / name, source], check=True, capture_output=True)
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(root, "/")
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {"architecture": _architecture(), "os": "linux", "config": {"Cmd": ["/pause"]}}
    config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    with tarfile.open(folder / "image.tar", "w") as tar:
        for name, content in (
            ("config.json", json.dumps(config).encode()),
            ("layer.tar", layer.getvalue()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return folder / "image.tar"


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64")
