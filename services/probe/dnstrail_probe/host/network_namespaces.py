"""Lists the sockets of every network namespace of this host (network_namespaces(7))."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple

from dnstrail.kernel.libc import call
from dnstrail.kernel.sock_diag import OpenSocket, namespace_cookie, open_sockets
from dnstrail_probe.host.procfs import network_namespaces

_CLONE_NEWNET = 0x40000000


class Namespace(NamedTuple):
    """One network namespace: its cookie (0: unknown) and its sockets."""

    cookie: int
    sockets: list[OpenSocket]


def all_sockets() -> Iterator[Namespace]:
    """Yield the network namespaces of this host; without CAP_SYS_ADMIN, the namespace of this process alone."""
    own = _own()
    yield own
    seen = {own.cookie}
    for path in network_namespaces().values():
        found = _in_namespace(str(path))
        if found is not None and (not found.cookie or found.cookie not in seen):
            seen.add(found.cookie)
            yield found


def _own() -> Namespace:
    try:
        return Namespace(namespace_cookie(), list(open_sockets()))
    except OSError:
        return Namespace(0, [])


def _in_namespace(path: str) -> Namespace | None:
    """Return another namespace, entered by a thread that then ends; None if it has ended or may not be entered."""
    found: list[Namespace] = []

    def enter() -> None:
        try:
            with open(path, "rb") as namespace:  # noqa: PTH123 - a descriptor is what setns wants
                call("setns", namespace.fileno(), _CLONE_NEWNET)
            found.append(_own())
        except OSError:  # its last process has ended, or CAP_SYS_ADMIN is missing
            return

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return found[0] if found else None
