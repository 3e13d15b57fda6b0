"""Names and images of containers, asked of the Docker daemon where there is one that we may ask, in a thread."""

from __future__ import annotations

import http.client
import json
import os
import queue
import socket
import threading
from collections import OrderedDict
from typing import Any, NamedTuple

from dnstrail.process.privileges import keep_capabilities

DOCKER = "/var/run/docker.sock"  # unless DOCKER_HOST names another socket, as for Docker's own tools
_SCHEME = "unix://"
MAX_KNOWN = 4096
_TIMEOUT = 2.0  # seconds for each step of a request
_LARGEST = 1 << 20  # bytes of an answer that are read
_WAITING = 256  # containers that may wait to be asked about


class ContainerName(NamedTuple):
    """What people call a container, and what it was made from; "" where nobody says."""

    name: str = ""
    image: str = ""


NAMELESS = ContainerName()


class ContainerNames:
    """Answers at once with what is known, and asks about the rest: a container's first events may lack its name."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path or docker_socket()
        self._known: OrderedDict[str, ContainerName] = OrderedDict()
        self._asked: queue.Queue[str | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._work, name="container names", daemon=True)
        self._thread.start()  # as who we are now: this process may give that up, and cannot reach Docker then

    def of(self, container: str) -> ContainerName:
        """What is known of a container by now."""
        found = self._known.get(container)
        if found is None and container:
            found = self._known[container] = NAMELESS
            self._ask(container)
        return found or NAMELESS

    def close(self) -> None:
        """Ask no more; a request that is under way ends by itself."""
        self._path = ""
        self._put(None)
        self._thread.join(_TIMEOUT)

    def _ask(self, container: str) -> None:
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        if not self._put(container):
            del self._known[container]  # with its next event once more

    def _put(self, container: str | None) -> bool:
        try:
            self._asked.put_nowait(container)
        except queue.Full:
            return False
        return True

    def _work(self) -> None:
        keep_capabilities()  # none: the socket's owner and group are enough
        while self._path and (container := self._asked.get()) is not None:
            found = inspect(self._path, container)
            if container in self._known:
                self._known[container] = found


def docker_socket() -> str:
    """Where the daemon of this host listens."""
    host = os.environ.get("DOCKER_HOST", "")
    return host.removeprefix(_SCHEME) if host.startswith(_SCHEME) else DOCKER


def inspect(path: str, container: str) -> ContainerName:
    """What the daemon at a socket says of a container (Docker Engine API, ContainerInspect); nameless if nothing."""
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
