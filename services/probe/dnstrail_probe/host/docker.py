"""The name, image and labels of a container from the Docker daemon (Docker Engine API, ContainerList)."""

from __future__ import annotations

import http.client
import json
import os
import socket
from typing import Any
from urllib.parse import quote

from dnstrail_probe.host.container_name import NAMELESS, NO_LABELS, ContainerName, LabelSelection, container_name

DOCKER = "/var/run/docker.sock"  # the default
#: variable: socket of Docker, for names and images of containers (default: unix:///var/run/docker.sock)
_DOCKER_HOST = "DOCKER_HOST"
_SCHEME = "unix://"
_TIMEOUT = 2.0  # seconds for each step of a request
_LARGEST = 1 << 20  # bytes of a reply that are read


def docker_socket() -> str:
    """Return the path of the daemon's socket."""
    host = os.environ.get(_DOCKER_HOST, "")
    return host.removeprefix(_SCHEME) if host.startswith(_SCHEME) else DOCKER


def inspect(path: str, container: str, selection: LabelSelection = NO_LABELS) -> ContainerName | None:
    """Return the name of a container from the daemon at a socket; None if the daemon gave no usable reply.

    The list of containers is asked: the daemon inspects a container that starts only once it runs.
    """
    connection = _UnixConnection(path)
    try:
        only = quote(json.dumps({"id": [container]}))
        connection.request("GET", f"/containers/json?all=1&filters={only}")
        answer: Any = json.loads(connection.getresponse().read(_LARGEST))
        if answer == []:
            return NAMELESS
        [found] = answer
        if found["Id"] != container:
            return None
        own = [name for name in found["Names"] if name.count("/") == 1]  # others are links: /OTHER/ALIAS
        return container_name(own[0].removeprefix("/"), found["Image"], selection.of(found.get("Labels")))
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
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
