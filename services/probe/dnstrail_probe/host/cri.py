"""Names and labels of a pod's containers from containerd or CRI-O: Container Runtime Interface, runtime.v1, by gRPC.

Messages and numbers of fields are those of k8s.io/cri-api/pkg/apis/runtime/v1/api.proto.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from dnstrail_probe.formats.protobuf import Fields, read_fields
from dnstrail_probe.host.container_name import NAMELESS, NO_LABELS, ContainerName, LabelSelection, container_name
from dnstrail_probe.host.pod_owners import Pod

#: variable: socket of containerd or CRI-O, for names and images of containers, unix:///PATH (default: the first of
#: /run/containerd/containerd.sock, /run/crio/crio.sock and /run/k3s/containerd/containerd.sock that exists)
_ENDPOINT = "CONTAINER_RUNTIME_ENDPOINT"
_SCHEME = "unix://"
_SOCKETS = ("/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/k3s/containerd/containerd.sock")
_SERVICE = "/runtime.v1.RuntimeService/"
_TIMEOUT = 2.0  # seconds for each request
_LARGEST = 1 << 20  # bytes of a reply
_MOST_FIELDS = 1 << 14  # of a message; each label and annotation of a pod is one
_MOST_PODS = 1024  # that are kept; a container of another one costs a further request
_LONGEST_POD = 2048  # characters of its parts and selected labels; a longer one is requested for each container
_USER_SPECIFIED_IMAGE = 18
_NO_OTHERS: Mapping[str, str] = {}
_LONGEST_TEXT = 127  # bytes whose length is one byte
_OPTIONS = (
    ("grpc.max_receive_message_length", _LARGEST),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class _LabelledPod(NamedTuple):
    """A pod and its selected labels, which never change."""

    pod: Pod
    labels: Mapping[str, str]

    @property
    def length(self) -> int:
        """The number of characters."""
        return sum(map(len, (*self.pod, *self.labels, *self.labels.values())))


class Cri:
    """A connection to a runtime, made when it is needed, and again after a failure.

    Threads share it. A pod is requested once for its containers: under load, each request delays the names of all
    containers behind it. `note_pod` receives the pod of each container and sandbox that has a name.
    """

    def __init__(
        self,
        selection: LabelSelection = NO_LABELS,
        note_pod: Callable[[str, Pod], None] = lambda _container, _pod: None,
    ) -> None:
        self._selection = selection
        self._note_pod = note_pod
        self._grpc: Any = None
        self._channel: Any = None
        self._lock = Lock()  # of these two
        self._lacks_grpc = False
        self._pods: OrderedDict[str, _LabelledPod] = OrderedDict()  # by their sandboxes

    def inspect(self, container: str) -> ContainerName | None:
        """Return `CONTAINER.POD.NAMESPACE`, image and labels, and `POD.NAMESPACE` for the sandbox of a pod.

        Labels are those of the pod, and those of the container that the pod does not have.

        None: the runtime gave no usable reply, or the package `grpcio` is not there.
        """
        try:
            return self._inspect(container)
        except (ImportError, OSError, ValueError, LookupError):
            return None

    def _inspect(self, container: str) -> ContainerName | None:
        found = self._call("ListContainers", _text(1, _text(1, container.encode())))  # by ContainerFilter.id
        _, entry = _message(found, 1)
        if not entry:
            return self._pod(container, container)
        if entry.get(1) != container.encode():
            raise ValueError("another container")
        pod = self._pod(container, entry[2].decode(), self._labels(found, 1, 8))
        if pod == NAMELESS:
            return NAMELESS
        name = _part(_message(entry, 3), 1)
        image = _text_of(_message(entry, 4)[1], _USER_SPECIFIED_IMAGE) or self._image(container)
        return container_name(f"{name}.{pod.name}", image, pod.labels)

    def _pod(self, container: str, sandbox: str, labels: Mapping[str, str] = _NO_OTHERS) -> ContainerName:
        """Return the name of a container's pod by the id of its sandbox, with its labels and others that it lacks."""
        found = self._pods.get(sandbox) or self._request_pod(sandbox)
        if found is None:
            return NAMELESS
        pod = found.pod
        self._note_pod(container, pod)
        return container_name(f"{pod.name}.{pod.namespace}", "", self._selection.of({**labels, **found.labels}))

    def _request_pod(self, sandbox: str) -> _LabelledPod | None:
        """Request a pod by the id of its sandbox; None if the runtime does not know it."""
        texts = self._call("PodSandboxStatus", _text(1, sandbox.encode()))
        status = _message(texts, 1)
        if not status[1]:
            return None
        if status[1].get(1) != sandbox.encode():
            raise ValueError("another pod")
        metadata = _message(status[1], 2)
        pod = Pod(_part(metadata, 3), metadata[1][1].decode(), _text_of(metadata[1], 2))
        stated = self._labels(texts, 1, 7)
        found = _LabelledPod(pod, {key: stated[key] for key in self._selection.keys if key in stated})
        if found.length <= _LONGEST_POD:
            self._pods[sandbox] = found
            if len(self._pods) > _MOST_PODS:
                self._pods.popitem(last=False)
        return found

    def _labels(self, texts: dict[int, bytes], field: int, place: int) -> dict[str, str]:
        """Return the labels of a message within a message; bytes that are no UTF-8 are no printable text."""
        found: dict[int, list[bytes]] = {place: []}
        if self._selection.keys:
            read_fields(texts.get(field, b""), _MOST_FIELDS, found)
        entries = [read_fields(entry, _MOST_FIELDS)[1] for entry in found[place]]
        return {_text_of(entry, 1): _text_of(entry, 2) for entry in entries}

    def _image(self, container: str) -> str:
        """Return the image of a container as it was written; "" if the container is gone."""
        status = _message(self._call("ContainerStatus", _text(1, container.encode())), 1)[1]
        if status and status.get(1) != container.encode():
            raise ValueError("another container")
        image = _message(status, 8)[1]
        return (image.get(_USER_SPECIFIED_IMAGE) or image.get(1, b"")).decode()  # or the name that it was found by

    def _call(self, method: str, request: bytes) -> dict[int, bytes]:
        """Return the byte strings of the reply to a request; {} if the runtime knows no such container or pod.

        Raises:
            ImportError: a part of the package is missing. OSError: the runtime gave no reply. ValueError: it is none.
        """
        channel = self._open()
        try:
            reply: bytes = channel.unary_unary(_SERVICE + method)(request, timeout=_TIMEOUT)
        except self._grpc.RpcError as error:
            if error.code() == self._grpc.StatusCode.NOT_FOUND:
                return {}
            with self._lock:
                if self._channel is channel:
                    self._channel = None  # it closes after the requests of other threads
            raise ConnectionError(method) from error
        return read_fields(reply, _MOST_FIELDS)[1]

    def _open(self) -> Any:
        """Return the channel.

        Raises:
            ImportError: a part of the package is missing; one attempt is made, as a second one would end the process.
        """
        with self._lock:
            if self._lacks_grpc:
                raise ImportError("grpc")
            if self._channel is None:
                try:
                    self._grpc = import_module("grpc")
                    self._channel = self._grpc.insecure_channel(f"{_SCHEME}{cri_socket()}", _OPTIONS)
                except ImportError:
                    self._lacks_grpc = True
                    raise
            return self._channel


def cri_socket() -> str:
    """Return the path of the socket of containerd or CRI-O."""
    endpoint = os.environ.get(_ENDPOINT, "")
    if endpoint.startswith(_SCHEME):
        return endpoint.removeprefix(_SCHEME)
    return next((path for path in _SOCKETS if Path(path).exists()), _SOCKETS[0])


def _message(texts: dict[int, bytes], field: int) -> Fields:
    """Return the fields of a message within a message; none if it is absent."""
    return read_fields(texts.get(field, b""), _MOST_FIELDS)


def _text_of(fields: dict[int, bytes], field: int) -> str:
    return fields.get(field, b"").decode(errors="surrogateescape")


def _part(message: Fields, field: int) -> str:
    """Return a name that has no dot: that of a container or a namespace.

    Raises:
        ValueError: it has one. LookupError: it is absent.
    """
    text = message[1][field].decode()
    if "." in text:
        raise ValueError("a dot in a name")
    return text


def _text(field: int, value: bytes) -> bytes:
    """Return a field of bytes in wire form."""
    if len(value) > _LONGEST_TEXT:
        raise ValueError("an id that is too long")
    return bytes((field << 3 | 2, len(value))) + value
