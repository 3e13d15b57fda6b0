"""A process outside of the cgroup of a command, which connects for it, and the command that asks it.

Run as `serve FOLDER`: it listens at Unix sockets, and prints its process and a descriptor of its own. Run as `ask HOST
PROCESS DESCRIPTOR PATH...`: it asks in all ways, and prints the result of each as JSON. A way that succeeds leads to a
connection to the host, with its name as data. It runs without the packages of the tests.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from live.attempts import PORT, result

ABSTRACT = "\0dnstrail-outside"
PLAIN = "plain.sock"  # a socket that is no service
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438  # system calls
_KINDS = {b"tcp": socket.SOCK_STREAM, b"udp": socket.SOCK_DGRAM}


def serve(folder: str, host: str, *paths: str) -> None:
    """Serve one request of each connection: connect to the host, or pass a socket."""
    servers = [socket.socket(socket.AF_UNIX) for _ in range(len(paths) + 2)]
    for server, path in zip(servers, (*paths, ABSTRACT, f"{folder}/{PLAIN}"), strict=True):
        server.bind(path)
        server.listen()
    own = socket.socket()
    print(os.getpid(), own.fileno(), flush=True)
    while True:
        for server in select.select(servers, [], [])[0]:
            with server.accept()[0] as connection, suppress(OSError):
                _serve(connection, connection.recv(100), host)


def _serve(connection: socket.socket, request: bytes, host: str) -> None:
    if request in _KINDS:
        with socket.socket(socket.AF_INET, _KINDS[request]) as made:
            socket.send_fds(connection, [b"x"], [made.fileno()])
    else:
        with socket.create_connection((host, PORT)) as made:
            if request == b"connected":
                socket.send_fds(connection, [b"x"], [made.fileno()])
            else:
                made.sendall(request)
                connection.sendall(b"x")


def _request(path: str, request: str) -> list[socket.socket]:
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(10)
        made.connect(path)
        made.sendall(request.encode())
        _, descriptors, _, _ = socket.recv_fds(made, 1, 1)
    return [socket.socket(fileno=one) for one in descriptors]


def _at(path: str) -> None:
    """Connect from the folder of a socket, by a link and by a relative path."""
    os.chdir(Path(path).parent)
    _request(Path(path).name, f"relative {path}")


def _by_link(path: str, folder: str) -> None:
    link = Path(folder, f"link-{Path(path).name}")
    link.symlink_to(path)
    _request(str(link), f"link {path}")


def _taken(process: int, descriptor: int, host: str) -> None:
    """Connect with a socket that is taken from another process."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.syscall(_PIDFD_OPEN, process, 0)
    taken = libc.syscall(_PIDFD_GETFD, handle, descriptor, 0)
    if taken < 0:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    with socket.socket(fileno=taken) as made:
        made.connect((host, PORT))
        made.sendall(b"taken")


def _passed(folder: str, kind: str, host: str) -> None:
    (made,) = _request(f"{folder}/{PLAIN}", kind)
    with made:
        if kind == "tcp":
            made.connect((host, PORT))
        if kind == "udp":
            made.sendto(kind.encode(), (host, PORT))
        else:
            made.sendall(f"passed {kind}".encode())


def ask(folder: str, host: str, process: str, descriptor: str, *paths: str) -> dict[str, str]:
    """Ask in all ways; return their results."""
    ways: dict[str, Callable[[], object]] = {}
    for path in paths:
        ways[path] = lambda path=path: _request(path, path)
        ways[f"relative {path}"] = lambda path=path: _at(path)
        ways[f"link {path}"] = lambda path=path: _by_link(path, folder)
        ways[f"root {path}"] = lambda path=path: _request(f"/proc/{process}/root{path}", f"root {path}")
    ways["abstract"] = lambda: _request(ABSTRACT, "abstract")
    ways["taken"] = lambda: _taken(int(process), int(descriptor), host)
    for kind in ("tcp", "udp", "connected"):
        ways[f"passed {kind}"] = lambda kind=kind: _passed(folder, kind, host)
    ways["plain"] = lambda: _request(f"{folder}/{PLAIN}", "plain")
    return {name: result(way) for name, way in ways.items()}


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    if role == "serve":
        serve(*arguments)
    else:
        print(json.dumps(ask(*arguments)))
