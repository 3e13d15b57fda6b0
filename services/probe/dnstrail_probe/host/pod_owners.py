"""The owners of pods, as Deployments, from the API server of Kubernetes: metadata.ownerReferences of pods and above."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections import OrderedDict
from contextlib import closing
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog

from dnstrail.captured import Labels
from dnstrail.errors import SettingsError
from dnstrail.regular_file import read_trusted
from dnstrail_probe.host.container_name import NAMELESS, OWNER_KEYS, ContainerName, owner_key

#: variable: host of the API server of Kubernetes, for owners of pods; Kubernetes sets it in pods
_HOST = "KUBERNETES_SERVICE_HOST"
#: variable: port of the API server of Kubernetes (default: 443); Kubernetes sets it in pods
_PORT = "KUBERNETES_SERVICE_PORT"
#: variable: folder of `token` and `ca.crt` for the API server; only root and the user of the probe may write to it
#: (default: /var/run/secrets/kubernetes.io/serviceaccount)
_ACCOUNT = "DNSTRAIL_SERVICE_ACCOUNT"
_DEFAULT_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_TIMEOUT = 2.0  # seconds for the owner of a pod; the first connection may need as long again
#: bytes of a reply of the API server -> the pod has no owner: `pod_owners_failed`
MOST_BYTES = 4 << 20  # an object has 1.5 MiB at most in etcd
MAX_PODS = 4096  # whose owners are kept; beyond it the oldest is evicted, and requested again
_PART = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_PART}(?:\.{_PART})*", re.ASCII)  # a DNS subdomain, RFC 1123
_NAMESPACE = re.compile(rf"(?=.{{1,63}}\Z){_PART}", re.ASCII)  # a DNS label
_MOST_TEXT = 300  # characters of a reason
_FOUND, _NOT_FOUND = 200, 404
# The path of each kind that is requested, and the kinds of its controllers with their groups.
_PATHS = {
    "Pod": "/api/v1/namespaces/{}/pods/{}",
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets/{}",
    "Job": "/apis/batch/v1/namespaces/{}/jobs/{}",
}
_CONTROLLERS = {
    "Pod": {"ReplicaSet": "apps", "StatefulSet": "apps", "DaemonSet": "apps", "Job": "batch"},
    "ReplicaSet": {"Deployment": "apps"},
    "Job": {"CronJob": "batch"},
}
_FAILURES = (SettingsError, OSError, HTTPException, ValueError, msgspec.MsgspecError, RecursionError)


class Pod(NamedTuple):
    """A pod as its runtime states it."""

    namespace: str
    name: str
    uid: str


class _Reference(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class _Metadata(msgspec.Struct, rename="camel"):
    uid: str
    owner_references: list[_Reference] = []


class _Object(msgspec.Struct):
    metadata: _Metadata


_OBJECT = msgspec.json.Decoder(_Object)


class PodOwners:
    """The owners of pods, as labels of their containers: `k8s.deployment.name=web`. They are requested once a pod.

    `keys` are those of the labels that are selected. `pods` has the pod of each container whose owner is unknown.
    Pods and owners are bounded. The log states each kind of failure once.
    """

    def __init__(self, labels: tuple[str, ...] = ()) -> None:
        self.keys = OWNER_KEYS.intersection(labels)
        self.pods: OrderedDict[str, Pod] = OrderedDict()
        self._known: OrderedDict[Pod, Labels] = OrderedDict()
        self._failures: set[str] = set()
        self._log = structlog.get_logger()

    def note_pod(self, container: str, pod: Pod) -> None:
        """Note the pod of a container."""
        if self.keys:
            _keep(self.pods, container, pod)

    def inspect(self, container: str) -> ContainerName | None:
        """Return the owners of a container's pod as labels, of a container without a name.

        None: the API server gave no usable reply.
        """
        pod = self.pods.get(container)
        if pod is None or not _NAMESPACE.fullmatch(pod.namespace) or not _NAME.fullmatch(pod.name):
            return NAMELESS
        if pod not in self._known:
            try:
                _keep(self._known, pod, _owners(pod))
            except _FAILURES as error:
                self._report(error)
                return None
        self.pods.pop(container, None)
        return ContainerName(labels=tuple(one for one in self._known[pod] if one[0] in self.keys))

    def _report(self, error: Exception) -> None:
        """Log the first failure of a kind."""
        kind = error.args[0] if isinstance(error, _StatusError) else type(error).__name__
        if kind not in self._failures:
            self._failures.add(kind)
            self._log.warning("pod_owners_failed", reason=repr(error)[:_MOST_TEXT])


class _StatusError(ValueError):
    """A status of HTTP that states neither an object nor its absence."""


class _Socket(ssl.SSLSocket):
    """A socket whose reads all end at a monotonic time, and after some bytes, however the peer sends them.

    http.client alone reads the chunk of a negative size without a bound.
    """

    deadline, room = float("inf"), 2 * MOST_BYTES

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0 or self.room <= 0:
            raise TimeoutError("the API server sent too slowly, or too much")
        self.settimeout(left)
        received = super().recv_into(*args, **kwargs)
        self.room -= received
        return received


class _ApiServer(HTTPSConnection):
    """A connection to the API server, with the token and the authority of now: both change while the probe runs."""

    def __init__(self) -> None:
        host = os.environ.get(_HOST, "")
        if not host:
            raise SettingsError(f"the labels name owners of pods, but {_HOST} names no API server")
        account = Path(os.environ.get(_ACCOUNT) or _DEFAULT_ACCOUNT)
        token, authority = (read_trusted(account / name, name).decode().strip() for name in ("token", "ca.crt"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=authority)
        context.sslsocket_class = _Socket
        super().__init__(host, int(os.environ.get(_PORT) or "443"), timeout=_TIMEOUT, context=context)
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        self._deadline = time.monotonic() + _TIMEOUT

    def connect(self) -> None:
        super().connect()
        if isinstance(self.sock, _Socket):
            self.sock.deadline = self._deadline

    def metadata(self, kind: str, namespace: str, name: str) -> _Metadata | None:
        """Return the metadata of an object; None if it is gone.

        Raises:
            OSError, HTTPException, ValueError, MsgspecError, RecursionError: the API server gave no usable reply.
        """
        self.request("GET", _PATHS[kind].format(namespace, name), headers=self._headers)
        reply = self.getresponse()
        body = reply.read(MOST_BYTES + 1)
        if len(body) > MOST_BYTES:
            raise ValueError(f"a reply of more than {MOST_BYTES} bytes")
        if reply.status == _NOT_FOUND:
            return None
        if reply.status != _FOUND:
            raise _StatusError(f"HTTP status {reply.status} for a {kind}")
        return _OBJECT.decode(body).metadata


def _owners(pod: Pod) -> Labels:
    """Return the owners of a pod as labels: its controller, and the one above; a ReplicaSet only if none is above.

    A pod that is gone has none, nor has one whose name belongs to another pod by now.

    Raises:
        SettingsError: the API server or its files are not set up.
        OSError, HTTPException, ValueError, MsgspecError, RecursionError: the API server gave no usable reply.
    """
    found: dict[str, str] = {}
    kind, name, uid = "Pod", pod.name, pod.uid
    with closing(_ApiServer()) as server:
        while kind in _PATHS:
            metadata = server.metadata(kind, pod.namespace, name)
            if metadata is None or metadata.uid != uid:
                return ()
            owner = next((one for one in metadata.owner_references if one.controller), None)
            if owner is None:
                break
            if kind == "ReplicaSet":
                found.clear()
            if _CONTROLLERS[kind].get(owner.kind) != owner.api_version.partition("/")[0]:
                break
            if not _NAME.fullmatch(owner.name):
                raise ValueError("an owner whose name is none of Kubernetes")
            kind, name, uid = owner.kind, owner.name, owner.uid
            found[owner_key(kind)] = name
    return tuple(sorted(found.items()))


def _keep(table: OrderedDict[Any, Any], key: object, value: object) -> None:
    table[key] = value
    while len(table) > MAX_PODS:
        table.popitem(last=False)
