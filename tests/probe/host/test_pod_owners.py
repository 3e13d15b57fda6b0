from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from dnstrail_probe.host import pod_owners as module
from dnstrail_probe.host.container_name import NAMELESS, OWNER_KEYS, LabelSelection
from dnstrail_probe.host.pod_owners import MAX_PODS, MOST_BYTES, Pod, PodOwners
from live.api_server import JOBS, PODS, REPLICA_SETS, ApiServer, api_server, owned, owner
from live.certificate import make_certificate
from live.processes import run_dir

ALL = tuple(sorted(OWNER_KEYS))
ID = "0123456789abcdef" * 4
WEB = Pod("shop", "web-5d4f8-x", "uid-web-5d4f8-x")
OF_POD = PODS + WEB.name
OF_SET = REPLICA_SETS + "web-5d4f8"


@pytest.fixture
def server(monkeypatch) -> Iterator[ApiServer]:
    """Yield an API server, which the variables name, with the pod of a Deployment."""
    with run_dir() as folder, api_server(folder) as running:
        for name, value in running.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(module, "_TIMEOUT", 20.0)
        running.objects[OF_POD] = owned(WEB.name, owner("ReplicaSet", "web-5d4f8"))
        running.objects[OF_SET] = owned("web-5d4f8", owner("Deployment", "web"))
        yield running


def labels_of(owners: PodOwners, pod: Pod = WEB, container: str = ID) -> dict[str, str] | None:
    """Return the owners of a container's pod; None if the API server gave no usable reply."""
    owners.note_pod(container, pod)
    found = owners.inspect(container)
    return None if found is None else dict(found.labels)


CHAINS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "a Deployment": ({}, {"k8s.deployment.name": "web"}),
    "a ReplicaSet alone": ({OF_SET: owned("web-5d4f8")}, {"k8s.replicaset.name": "web-5d4f8"}),
    "a ReplicaSet of another kind": ({OF_SET: owned("web-5d4f8", owner("Rollout", "web", "argoproj.io/v1"))}, {}),
    "a ReplicaSet that is gone": ({OF_SET: None}, {}),
    "another ReplicaSet of this name": ({OF_SET: owned("other", owner("Deployment", "web"))}, {}),
    "a StatefulSet": ({OF_POD: owned(WEB.name, owner("StatefulSet", "db"))}, {"k8s.statefulset.name": "db"}),
    "a DaemonSet": ({OF_POD: owned(WEB.name, owner("DaemonSet", "log"))}, {"k8s.daemonset.name": "log"}),
    "a Job": (
        {OF_POD: owned(WEB.name, owner("Job", "import", "batch/v1")), f"{JOBS}import": owned("import")},
        {"k8s.job.name": "import"},
    ),
    "a CronJob": (
        {
            OF_POD: owned(WEB.name, owner("Job", "import-1", "batch/v1")),
            f"{JOBS}import-1": owned("import-1", owner("CronJob", "import", "batch/v1")),
        },
        {"k8s.job.name": "import-1", "k8s.cronjob.name": "import"},
    ),
    "a node (static pod)": ({OF_POD: owned(WEB.name, owner("Node", "n1", "v1"))}, {}),
    "no owner": ({OF_POD: owned(WEB.name)}, {}),
    "no controller": ({OF_POD: owned(WEB.name, owner("StatefulSet", "db", controller=False))}, {}),
    "the controller among others": (
        {OF_POD: owned(WEB.name, owner("Deployment", "x", controller=False), owner("StatefulSet", "db"))},
        {"k8s.statefulset.name": "db"},
    ),
    "a Deployment of another group": ({OF_SET: owned("web-5d4f8", owner("Deployment", "web", "own.example/v1"))}, {}),
    "a Deployment right above": ({OF_POD: owned(WEB.name, owner("Deployment", "web"))}, {}),
    "a ReplicaSet above a ReplicaSet": ({OF_SET: owned("web-5d4f8", owner("ReplicaSet", "web-5d4f8"))}, {}),
    "another pod of this name": ({OF_POD: owned("other", owner("StatefulSet", "db"))}, {}),
    "a pod that is gone": ({OF_POD: None}, {}),
}


@pytest.mark.parametrize(("objects", "expected"), CHAINS.values(), ids=CHAINS)
def test_a_pod_has_its_controllers(server, objects, expected):
    """A pod has its controller and the one above; a ReplicaSet counts only if none is above; one reply is enough."""
    server.objects.update(objects)
    owners = PodOwners(ALL)
    assert labels_of(owners) == expected
    asked = len(server.asked)
    assert labels_of(owners, container="f" * 64) == expected
    assert len(server.asked) == asked


def test_the_requests_are_those_of_the_api(server):
    """The pod and the object above are requested, by their namespace; the selected labels alone are kept."""
    assert labels_of(PodOwners(("app", "k8s.deployment.name"))) == {"k8s.deployment.name": "web"}
    assert server.asked == [OF_POD, OF_SET]
    assert labels_of(PodOwners(("k8s.job.name",))) == {}


def test_a_token_is_read_anew(server):
    """After a kubelet has replaced the token, the new one is sent; the old one costs owners until then."""
    owners = PodOwners(ALL)
    assert labels_of(owners) == {"k8s.deployment.name": "web"}
    server.token = "second"
    later = WEB._replace(uid="uid-other")
    assert labels_of(owners, later) is None
    server.set_token("second")
    assert labels_of(owners, later) == {}


def test_no_label_of_a_pod_or_an_image_states_an_owner():
    """Whoever makes a pod or an image cannot forge an owner by a label."""
    assert LabelSelection((*ALL, "app")).of(dict.fromkeys((*ALL, "app"), "forged")) == (("app", "forged"),)


HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "a/../../secrets/x",
    "a?watch=1",
    "a%2fb",
    "a b",
    "a\r\nX: 1",
    "A",
    "-a",
    "a.",
    "a..b",
    "ä",
]


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "a" * 254])
def test_a_hostile_name_is_not_requested(server, name):
    """A name of a pod or a namespace that Kubernetes refuses leads to no request."""
    owners = PodOwners(ALL)
    assert labels_of(owners, WEB._replace(name=name)) == {}
    assert labels_of(owners, WEB._replace(namespace=name)) == {}
    assert labels_of(owners, WEB._replace(namespace="a.b")) == {}
    assert server.asked == []


def endless(handler: Any) -> None:
    """Send a body that does not end."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * (1 << 16))


def negative_chunk(handler: Any) -> None:
    """Send a chunk of a negative size, and a body that does not end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
    while True:
        handler.server.sent += handler.wfile.write(b" " * (1 << 16))


def slow_body(handler: Any) -> None:
    """Send a body byte by byte, until the client ends the connection."""
    handler.send_response(200)
    handler.end_headers()
    _drip(handler, b" ")


def slow_head(handler: Any) -> None:
    """Send a header byte by byte, until the client ends the connection."""
    _drip(handler, b"HTTP/1.1 100 Continue\r\n\r\n")


def _drip(handler: Any, part: bytes) -> None:
    while not handler.server.ended.wait(0.02):
        handler.wfile.write(part)


def half(handler: Any) -> None:
    """Send a part of a body, and end the connection."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"a')
    handler.close_connection = True


def status(code: int, **headers: str) -> Any:
    """Return a reply with a status, and the object of a Deployment's pod."""
    return lambda handler: handler.answer(code, b'{"metadata": {"uid": "uid-web-5d4f8-x"}}', **headers)


HOSTILE: dict[str, Any] = {
    "forbidden": status(403),
    "away for a while": status(503),
    "another place": status(302, Location="/else"),
    "an endless body": endless,
    "a chunk of a negative size": negative_chunk,
    "a slow body": slow_body,
    "a slow head": slow_head,
    "a body that is too long": b" " * (MOST_BYTES + 1),
    "no JSON": b"\xff{",
    "a list": b"[]",
    "nested": b'{"metadata": {"uid": "u", "x": ' + b"[" * 100_000,
    "no uid": b'{"metadata": {}}',
    "no list of owners": b'{"metadata": {"uid": "uid-web-5d4f8-x", "ownerReferences": "x"}}',
    "no HTTP": lambda handler: handler.wfile.write(b"\x1b[2J\r\n" * 100),
    "an end": lambda handler: setattr(handler, "close_connection", True),
    "half a body": half,
    "an owner with a hostile name": owned(WEB.name, owner("StatefulSet", "a/../b")),
    "an owner with a long name": owned(WEB.name, owner("StatefulSet", "a" * 254)),
    "an owner with a path": owned(WEB.name, owner("ReplicaSet", "../../secrets/x")),
}


@pytest.mark.parametrize("reply", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_reply_gives_no_owner(server, monkeypatch, reply):
    """An API server that refuses, lies or is slow costs the owner alone: in time, once in the log, and asked again."""
    if reply in (slow_body, slow_head):
        monkeypatch.setattr(module, "_TIMEOUT", 0.3)
    server.ended, server.sent = threading.Event(), 0
    server.objects[OF_POD] = reply
    with structlog.testing.capture_logs() as logged:
        owners = PodOwners(ALL)
        try:
            for _ in range(2):
                assert labels_of(owners) is None
        finally:
            server.ended.set()
    [line] = logged
    assert (line["event"], line["log_level"]) == ("pod_owners_failed", "warning")
    assert line["reason"].isprintable()
    assert len(line["reason"]) <= 300
    assert server.asked == [OF_POD] * 2
    assert server.sent < 16 * MOST_BYTES  # with what waits in buffers
    server.objects[OF_POD] = owned(WEB.name, owner("StatefulSet", "db"))
    monkeypatch.setattr(module, "_TIMEOUT", 20.0)
    assert owners.inspect(ID).labels == (("k8s.statefulset.name", "db"),)


def test_each_kind_of_failure_is_logged_once(server):
    """Two statuses are two kinds; the status of the object above is another one."""
    owners = PodOwners(ALL)
    with structlog.testing.capture_logs() as logged:
        for path, code in ((OF_SET, 403), (OF_POD, 403), (OF_POD, 500), (OF_POD, 403)):
            server.objects[path] = status(code)
            assert owners.inspect(ID) == NAMELESS  # without a pod nothing is asked
            assert labels_of(owners) is None
            owners.pods.clear()
    expected = ["403 for a ReplicaSet", "403 for a Pod", "500 for a Pod"]
    assert [line["reason"].split("status ")[1].rstrip("')") for line in logged] == expected


def no_server(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a port that nobody serves."""
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")


def no_host(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name no host."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")


def no_port(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name no number, as a link of Docker does."""
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "tcp://10.0.0.1:443")


def another_authority(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust an authority that did not sign the certificate of the server."""
    other = server.account / "other"
    other.mkdir()
    make_certificate(other, "kubernetes", "127.0.0.1")
    (other / "certificate.pem").rename(server.account / "ca.crt")


def another_host(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name a host for which the certificate is not."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.2")


def no_authority(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an authority that is none."""
    (server.account / "ca.crt").write_text("")


def no_token(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no token."""
    (server.account / "token").unlink()


def token_of_two_lines(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a token that would begin another header."""
    (server.account / "token").write_text("first\r\nX: 1")


def token_of_others(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a token that anybody may write."""
    (server.account / "token").chmod(0o666)


def authority_of_others(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an authority that anybody may write."""
    (server.account / "ca.crt").chmod(0o666)


SETUPS = [no_server, no_host, no_port, another_authority, another_host, no_authority]
SETUPS += [no_token, token_of_two_lines, token_of_others, authority_of_others]


@pytest.mark.parametrize("change", SETUPS)
def test_no_token_is_sent_without_a_trusted_setup(server, monkeypatch, change):
    """Nothing is asked without a certificate that the authority signed, and files that root alone may write."""
    change(server, monkeypatch)
    assert labels_of(PodOwners(ALL)) is None
    assert server.asked == []


def test_pods_and_owners_are_bounded(server):
    """Beyond the bound the oldest pod and the oldest owner are evicted; an evicted owner is requested again."""
    owners = PodOwners(ALL)
    labels_of(owners)
    for number in range(MAX_PODS + 5):
        owners._known.update({Pod("shop", f"p{number}", ""): ()})
        owners.note_pod(f"{number:064x}", WEB)
    assert len(owners.pods) == MAX_PODS
    labels_of(owners, WEB._replace(uid="uid-other"))
    assert len(owners._known) == MAX_PODS
    asked = len(server.asked)
    assert labels_of(owners) == {"k8s.deployment.name": "web"}
    assert len(server.asked) > asked


def test_nothing_is_kept_unless_a_label_names_an_owner():
    """Without the key of an owner no pod is noted."""
    owners = PodOwners(("app",))
    assert labels_of(owners) == {}
    assert not owners.pods
