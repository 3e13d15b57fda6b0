"""The names and images of containers, requested from the Docker daemon in a thread."""

from __future__ import annotations

import http.client
import json
import os
import queue
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from dnstrail.kernel.capabilities import keep_capabilities

DOCKER = "/var/run/docker.sock"  # the default
#: variable: socket of Docker, for names and images of containers (default: unix:///var/run/docker.sock)
_DOCKER_HOST = "DOCKER_HOST"
_SCHEME = "unix://"
MAX_KNOWN = 4096  # names; beyond it the oldest is evicted, and queried again
_TIMEOUT = 2.0  # seconds for each step of a request
_LARGEST = 1 << 20  # bytes of a reply that are read
_WAITING = 256  # containers whose request may wait
#: seconds after a failed query for the name of a container -> until then its events have no name
RETRY = 10.0  # the daemon may be busy, or may not know the container
_NEVER = float("inf")


class ContainerName(NamedTuple):
    """The name of a container and the image that it was made from; "" if unknown."""

    name: str = ""
    image: str = ""


NAMELESS = ContainerName()


class _Known(NamedTuple):
    """A container: its name, and the monotonic time at which it is to be requested again."""

    name: ContainerName = NAMELESS
    due: float = _NEVER


class ContainerNames:
    """The names of containers, from a cache that a thread fills.

    A lookup never waits: it returns the cached name and requests a missing one. The first events of a container can
    therefore lack its name. Cache and queue are bounded. A request that failed is repeated after RETRY at the earliest.
    """

    def __init__(self, path: str | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path or docker_socket()
        self._monotonic = monotonic
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._requests: queue.Queue[str | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="container names", daemon=True)
        self._thread.start()  # before this process drops the privileges that the socket requires

    def of(self, container: str) -> ContainerName:
        """Return the name of a container; nameless until the daemon has replied."""
        known = self._known.get(container)
        if known is None:
            if container:
                self._request(container)
            return NAMELESS
        if known.due != _NEVER and known.due <= self._monotonic():
            self._request(container)
        return known.name

    def close(self) -> None:
        """Let the thread end after its present request. Do not wait for it: it holds nothing but that request."""
        self._path = ""
        self._put(None)

    def _request(self, container: str) -> None:
        self._known[container] = _Known()
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        if not self._put(container):
            self._known.pop(container, None)  # its next event requests it again

    def _put(self, container: str | None) -> bool:
        try:
            self._requests.put_nowait(container)
        except queue.Full:
            return False
        return True

    def _work(self) -> None:
        keep_capabilities()  # none: owner and group of the socket are enough
        while self._path and (container := self._requests.get()) is not None:
            found = inspect(self._path, container)
            if container in self._known:
                self._known[container] = _Known(found, self._monotonic() + RETRY if found == NAMELESS else _NEVER)


def docker_socket() -> str:
    """Return the path of the daemon's socket."""
    host = os.environ.get(_DOCKER_HOST, "")
    return host.removeprefix(_SCHEME) if host.startswith(_SCHEME) else DOCKER


def inspect(path: str, container: str) -> ContainerName:
    """Return the name of a container from the daemon at a socket (Docker Engine API, ContainerInspect)."""
    connection = _UnixConnection(path)
    try:
        connection.request("GET", f"/containers/{container}/json")
        answer: Any = json.loads(connection.getresponse().read(_LARGEST))
        return ContainerName(str(answer["Name"]).removeprefix("/"), str(answer["Config"]["Image"]))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, RecursionError):
        return NAMELESS
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)
