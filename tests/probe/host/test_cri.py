from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from dnstrail_probe.host.container_name import LONGEST_LABEL, NAMELESS, ContainerName, LabelSelection
from dnstrail_probe.host.cri import Cri, cri_socket
from live.cri_messages import message
from live.processes import PATIENCE, run_dir

ID, POD = "0123456789abcdef" * 4, "f" * 64
IMAGE = "registry.example/nginx:1"


def container(identity: str = ID, pod: str = POD, name: str = "nginx", *more: tuple[int, object]) -> bytes:
    """Return the reply of ListContainers with one container."""
    return message((1, message((1, identity), (2, pod), (3, message((1, name))), (6, 1), *more)))


def pod(identity: str = POD, name: str = "web-1.a", namespace: str = "shop", *more: tuple[int, object]) -> bytes:
    """Return the reply of PodSandboxStatus."""
    return message((1, message((1, identity), (2, message((1, name), (2, "uid"), (3, namespace))), *more)))


def image(identity: str = ID, *fields: tuple[int, object]) -> bytes:
    """Return the reply of ContainerStatus."""
    return message((1, message((1, identity), (8, message(*(fields or ((1, IMAGE),)))))))


REPLIES = {"ListContainers": container(), "PodSandboxStatus": pod(), "ContainerStatus": image()}


@contextmanager
def serving(path: Path, replies: dict[str, bytes], note: Callable[[str, bytes], None]) -> Iterator[None]:
    """Serve the replies by gRPC, in place of a runtime; without one, the runtime knows no such thing."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            method = details.method.rpartition("/")[2]

            def reply(request, context):
                note(details.method, request)
                return replies[method] if method in replies else context.abort(grpc.StatusCode.NOT_FOUND, "")

            return grpc.unary_unary_rpc_method_handler(reply)

    server = grpc.server(ThreadPoolExecutor(2), [Handler()])
    server.add_insecure_port(f"unix://{path}")
    server.start()
    try:
        yield
    finally:
        server.stop(None).wait()


@pytest.fixture
def folder(monkeypatch) -> Iterator[Path]:
    """Yield a folder for the socket, which the variable names."""
    with run_dir() as made:
        monkeypatch.setenv("CONTAINER_RUNTIME_ENDPOINT", f"unix://{made}/s")
        yield made


def found_in(folder: Path, asked: str = ID, **replies: bytes | None) -> ContainerName | None:
    """Return the name of a container by these replies."""
    given = {name: reply for name, reply in {**REPLIES, **replies}.items() if reply is not None}
    with serving(folder / "s", given, lambda _method, _request: None):
        return Cri().inspect(asked)


def test_a_container_has_the_names_of_its_pod(folder):
    """The name has container, pod and namespace; the requests state the ids."""
    requests = []
    with serving(folder / "s", REPLIES, lambda *request: requests.append(request)):
        assert Cri().inspect(ID) == ContainerName("nginx.web-1.a.shop", IMAGE)
    assert requests == [
        ("/runtime.v1.RuntimeService/ListContainers", message((1, message((1, ID))))),
        ("/runtime.v1.RuntimeService/PodSandboxStatus", message((1, POD))),
        ("/runtime.v1.RuntimeService/ContainerStatus", message((1, ID))),
    ]


def methods_for(folder: Path, stated: bytes, listed: bytes, count: int = 2) -> list[str]:
    """Return the methods that are called for a container again and again, if these are its pod and the container."""
    methods: list[str] = []
    replies = {**REPLIES, "PodSandboxStatus": stated, "ListContainers": listed}
    with serving(folder / "s", replies, lambda method, _request: methods.append(method.rpartition("/")[2])):
        runtime = Cri(LabelSelection(("app",)))
        [name] = {runtime.inspect(ID) for _ in range(count)}
        assert name is not None
        assert name[:2] == ("nginx.web-1.a.shop", IMAGE)
    return methods


def test_a_pod_is_requested_once(folder):
    """The second container of a pod costs no request for the pod; if the list has the image as written, one in all."""
    once = ["ListContainers", "PodSandboxStatus", "ContainerStatus", "ListContainers", "ContainerStatus"]
    assert methods_for(folder, pod(), container()) == once
    written = container(ID, POD, "nginx", (4, message((1, "sha256:1234"), (18, IMAGE))))
    assert methods_for(folder, pod(), written, 3) == ["ListContainers", "PodSandboxStatus", *["ListContainers"] * 2]


def test_a_pod_of_long_labels_is_not_kept(folder):
    """A pod whose label fills memory is requested again; its label counts before that of the container, always."""
    stated = pod(POD, "web-1.a", "shop", *labels(7, ("app", "a" * 900_000)))
    listed = container(ID, POD, "nginx", *labels(8, ("app", "forged")))
    assert methods_for(folder, stated, listed).count("PodSandboxStatus") == 2


def test_many_pods_displace_the_oldest(folder, monkeypatch):
    """Pods beyond the bound take no memory; the oldest is requested again."""
    monkeypatch.setattr("dnstrail_probe.host.cri._MOST_PODS", 1)
    asked: list[bytes] = []
    replies = dict(REPLIES)

    def note(method: str, request: bytes) -> None:
        if method.endswith("PodSandboxStatus"):
            asked.append(request)

    with serving(folder / "s", replies, note):
        runtime = Cri()
        for sandbox in (POD, POD, "e" * 64, POD):
            replies.update(ListContainers=container(ID, sandbox), PodSandboxStatus=pod(sandbox))
            assert runtime.inspect(ID) == ContainerName("nginx.web-1.a.shop", IMAGE)
    assert asked == [message((1, one)) for one in (POD, "e" * 64, POD)]


def test_the_image_is_the_one_that_was_written(folder):
    """The image of the pod's settings counts before that of the runtime, which can be a digest."""
    by_digest = image(ID, (1, "sha256:1234"), (18, IMAGE))
    assert found_in(folder, ContainerStatus=by_digest) == ContainerName("nginx.web-1.a.shop", IMAGE)


def test_a_pod_with_many_annotations_keeps_its_name(folder):
    """Whoever makes a pod cannot hide its name by annotations."""
    many = [(8, message((1, f"key-{number}"), (2, "x" * 100))) for number in range(5000)]
    assert found_in(folder, PodSandboxStatus=pod(POD, "web-1", "shop", *many)) == ("nginx.web-1.shop", IMAGE, ())


def labels(field: int, *stated: tuple[object, object]) -> list[tuple[int, object]]:
    """Return labels as fields of a message."""
    return [(field, message((1, key), (2, value))) for key, value in stated]


def test_a_container_has_the_labels_of_its_pod(folder):
    """The selected labels of the pod count, and those of the container that the pod does not have."""
    of_pod = labels(7, ("app", "web"), ("other", "x"))
    of_container = labels(8, ("app", "db"), ("io.kubernetes.container.name", "nginx"))
    replies = {"ListContainers": container(ID, POD, "nginx", *of_container)}
    replies = {**REPLIES, **replies, "PodSandboxStatus": pod(POD, "web-1", "shop", *of_pod)}
    selection = LabelSelection(("io.kubernetes.container.name", "app", "absent"))
    with serving(folder / "s", replies, lambda _method, _request: None):
        found = Cri(selection).inspect(ID)
        assert found.labels == (("app", "web"), ("io.kubernetes.container.name", "nginx"))
        assert Cri().inspect(ID).labels == ()
    assert selection.left_out == 0


HOSTILE_LABELS = {
    "of control characters": ("web\n\x1b[2J", 1),
    "bytes that are no text": (b"\xff", 1),
    "too long": ("a" * (LONGEST_LABEL + 1), 1),
    "900 KB": ("a" * 900_000, 1),
    "an override of the direction": ("\u202ebew", 1),
    "as long as can be": ("a" * LONGEST_LABEL, 0),
    "empty": ("", 0),
    "the name of another container": ("nginx.other.shop", 0),
}


@pytest.mark.parametrize(("value", "left_out"), HOSTILE_LABELS.values(), ids=HOSTILE_LABELS)
def test_a_hostile_label_costs_itself_alone(folder, value, left_out):
    """A value that is no printable text, or too long, is left out and counted; the name and other labels stay."""
    selection = LabelSelection(("app", "team"))
    stated = pod(POD, "web-1", "shop", *labels(7, ("app", value), ("team", "x")))
    with serving(folder / "s", {**REPLIES, "PodSandboxStatus": stated}, lambda _method, _request: None):
        found = Cri(selection).inspect(ID)
    kept = () if left_out else (("app", value),)
    assert found == ("nginx.web-1.shop", IMAGE, (*kept, ("team", "x")))
    assert selection.left_out == left_out


def test_labels_that_are_no_messages_give_no_name(folder):
    """A runtime that lies about labels is one that gave no usable reply."""
    replies = {**REPLIES, "PodSandboxStatus": pod(POD, "web-1", "shop", (7, b"\xff"))}
    with serving(folder / "s", replies, lambda _method, _request: None):
        assert Cri(LabelSelection(("app",))).inspect(ID) is None


def test_the_sandbox_of_a_pod_has_its_name(folder):
    """The sandbox itself has the names of pod and namespace."""
    assert found_in(folder, POD, ListContainers=b"") == ContainerName("web-1.a.shop")


@pytest.mark.parametrize(
    "replies",
    [
        {"ListContainers": b"", "PodSandboxStatus": None},
        {"PodSandboxStatus": None},
    ],
)
def test_an_unknown_container_has_no_name(folder, replies):
    """A container or pod that the runtime does not know has no name; this is no failure of the runtime."""
    assert found_in(folder, **replies) == NAMELESS


def test_a_container_that_is_gone_meanwhile_has_no_image(folder):
    """A container that ended between two requests keeps its name."""
    assert found_in(folder, ContainerStatus=None) == ContainerName("nginx.web-1.a.shop")


@pytest.mark.parametrize(
    "replies",
    [
        {"ListContainers": container(POD)},
        {"ListContainers": container(pod="x" * 200)},
        {"ListContainers": container(name="a.b")},
        {"ListContainers": container(name="alice/web")},
        {"ListContainers": container(name="web\n")},
        {"ListContainers": b"\xff" * 9},
        {"ListContainers": message((1, message((1, ID))))},
        {"ListContainers": message((1, message((1, ID), (2, b"\xff"))))},
        {"ListContainers": bytes((1 << 20) + 1)},
        {"ListContainers": container(ID, POD, "nginx", (4, message((18, "a" * 513))))},
        {"ListContainers": container(ID, POD, "nginx", (4, message((18, b"\xff"))))},
        {"PodSandboxStatus": pod(ID)},
        {"PodSandboxStatus": pod(namespace="shop.other")},
        {"PodSandboxStatus": pod(name="a" * 400)},
        {"PodSandboxStatus": pod(name="\x1b[2J")},
        {"PodSandboxStatus": message((1, message((1, POD))))},
        {"PodSandboxStatus": message(*[(2, 1)] * 20_000)},
        {"ContainerStatus": image(POD)},
        {"ContainerStatus": image(ID, (1, b"\xff"))},
        {"ContainerStatus": image(ID, (1, "a" * 513))},
        {"ContainerStatus": message((1, 5))},
    ],
)
def test_a_runtime_that_lies_gives_no_name(folder, replies):
    """Wrong types, other ids, names that Kubernetes refuses and huge replies give no name, and raise nothing."""
    found = found_in(folder, **replies)
    assert found is None or not found.image


def test_a_runtime_that_restarts_is_asked_again(folder):
    """Without a runtime there is no name; the same connection finds the name once the runtime is back."""
    runtime = Cri()
    for _ in range(2):
        assert runtime.inspect(ID) is None
        with serving(folder / "s", REPLIES, lambda _method, _request: None):
            assert runtime.inspect(ID) == ContainerName("nginx.web-1.a.shop", IMAGE)


def test_a_request_that_fails_costs_no_other_thread_its_name(folder):
    """While one container gives no usable reply, again and again, other threads get theirs by the same connection."""
    failing = ("e" * 64).encode()

    def note(_method: str, request: bytes) -> None:
        time.sleep(0.01)  # requests of several threads are on their way
        if failing in request:
            raise ValueError("the runtime has a fault")

    runtime = Cri()
    with serving(folder / "s", REPLIES, note), ThreadPoolExecutor(4) as threads:
        found = [*threads.map(runtime.inspect, [ID, "e" * 64] * 10)]
    assert found == [ContainerName("nginx.web-1.a.shop", IMAGE), None] * 10


def test_bytes_that_are_no_grpc_give_no_name(folder):
    """A socket that belongs to no runtime gives no name."""
    (folder / "s").write_text("a file")
    assert Cri().inspect(ID) is None


def test_the_variable_names_the_socket(monkeypatch):
    """Without the variable the usual sockets count."""
    monkeypatch.setenv("CONTAINER_RUNTIME_ENDPOINT", "unix:///run/other.sock")
    assert cri_socket() == "/run/other.sock"
    monkeypatch.setenv("CONTAINER_RUNTIME_ENDPOINT", "tcp://192.0.2.1:1")
    assert cri_socket() == "/run/containerd/containerd.sock"


@pytest.mark.parametrize("part", ["pkgutil", "grpc._observability", "grpc._channel"])
def test_a_package_of_which_a_part_is_missing_ends_no_process(part):
    """An import of grpc that fails midway, as that of a probe that may not read all of it, is not repeated.

    A second one would abort the probe, also that of another thread.
    """
    code = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from dnstrail_probe.host.cri import Cri
class Unreadable:
    def find_spec(name, *_):
        if name == {part!r}:  # which grpc imports late
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Unreadable)
sys.modules.pop({part!r}, None)
with ThreadPoolExecutor(4) as threads:
    print({{*threads.map(Cri().inspect, [{ID!r}] * 8)}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, "{None}\n"), done.stderr
