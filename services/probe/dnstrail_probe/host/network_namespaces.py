"""Looks into every network namespace of this host (network_namespaces(7)), each from a thread of its own."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from dnstrail_probe.host.procfs import network_namespaces
from dnstrail_probe.host.sock_diag import OpenSocket, namespace_cookie, open_sockets

_CLONE_NEWNET = 0x40000000


class Namespace(NamedTuple):
    """One network namespace: its cookie (0: not known), and the sockets in it."""

    cookie: int
    sockets: list[OpenSocket]


def all_sockets() -> Iterator[Namespace]:
    """The sockets of this host; of this namespace alone where we may not enter others (CAP_SYS_ADMIN)."""
    own = _own()
    yield own
    seen = {own.cookie}
    for path in network_namespaces().values():
        found = _in_namespace(str(path), _own)
        if found is not None and (not found.cookie or found.cookie not in seen):
            seen.add(found.cookie)
            yield found


def _own() -> Namespace:
    try:
        return Namespace(namespace_cookie(), list(open_sockets()))
    except OSError:
        return Namespace(0, [])


def _in_namespace(path: str, look: Callable[[], Namespace]) -> Namespace | None:
    """What there is to see in a namespace; the thread that enters it ends there. None if it is gone, or refused."""
    found: list[Namespace] = []

    def enter() -> None:
        try:
            with open(path, "rb") as namespace:  # noqa: PTH123 - a descriptor is what setns wants
                if ctypes.CDLL(None).setns(namespace.fileno(), _CLONE_NEWNET) == 0:
                    found.append(look())
        except OSError:  # its last process has ended
            return

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return found[0] if found else None
