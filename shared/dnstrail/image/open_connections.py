"""The open connections of an image as replies list them, each with the name that it means (docs/use/lookups.md).

It is not compiled: msgspec decodes by its annotations.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from dnstrail.captured import Process
from dnstrail.connection import Connection
from dnstrail.container import fits_container
from dnstrail.image.binding.binder import connection_of
from dnstrail.image.binding.bindings import Binding
from dnstrail.image.bounds import SECOND
from dnstrail.image.image import Image
from dnstrail.image.result import EXPIRED
from dnstrail.image.trails.names import AddressNames
from dnstrail.image.trails.states import state_of_answers

RIVALS: Final = 16  #: other names of one open connection -> the others are left out
_NOBODY: Final = Process()


class OpenConnection(msgspec.Struct, frozen=True):
    """One open connection. Unknown fields are "" or 0; times are in seconds.

    `name` is the name that it means, and `bound` how it was found (thread, process, parent, last, sni, host). `state`
    states whether answers to this name lead to the address now (live, grace), or no longer (expired). `connected` is
    false until its success was seen; a connection over UDP was seen since it sent a datagram. `rivals` contains the
    likeliest other names, if they were asked for. `container_labels` is there if the container has some.
    """

    host: str
    process_id: int
    process_name: str
    executable: str
    container_id: str
    container_name: str
    container_image: str
    unit: str
    slice: str
    client: str
    client_port: int
    address: str
    port: int
    transport: str
    name: str
    bound: str
    state: str
    connected: bool
    since: float
    age: float
    rivals: list[str]
    container_labels: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class ConnectionPage(msgspec.Struct, frozen=True):
    """Some connections, the cursor of the next page ("" at the end), and the number of hosts that the cache follows.

    `history` is false if not all connections of a past time are known.
    """

    connections: list[OpenConnection]
    next: str
    hosts: int
    history: bool = True


class ConnectionList:
    """Open connections as of a time on the clock of an image. Those to one address share the walks to its names.

    `at` is None for the present. `difference` is wall time minus this clock (ns).
    """

    def __init__(self, image: Image, now: int, at: int | None, difference: int, *, rivals: bool) -> None:
        self._image = image
        self._now = now
        self._at = at
        self._time = now if at is None else at
        self._difference = difference
        self._walks: dict[str, AddressNames] | None = {} if rivals else None

    def shown(self, binding: Binding) -> OpenConnection:
        """Return a connection as a reply contains it."""
        opening, meaning = binding.opening, binding.meant(self._time)
        process = opening.process or _NOBODY
        return OpenConnection(
            host=opening.host,
            process_id=process.pid,
            process_name=process.name,
            executable=process.path,
            container_id=process.container_id,
            container_name=process.container_name,
            container_image=process.container_image,
            unit=process.unit,
            slice=process.slice,
            client=binding.client,
            client_port=binding.client_port,
            address=opening.address,
            port=opening.port,
            transport=opening.transport,
            name=meaning.name,
            bound=meaning.by,
            state=self._state_of(meaning.name, opening.address) if meaning.name else "",
            connected=binding.is_connected(self._time),
            since=(binding.stamp + self._difference) / SECOND,
            age=(self._time - binding.stamp) / SECOND,
            rivals=[] if self._walks is None else self._rivals(binding, meaning.name, self._walks),
            container_labels=dict(process.container_labels) or msgspec.UNSET,
        )

    def _state_of(self, name: str, address: str) -> str:
        """Return the state of what the answers to a name state about an address."""
        root = self._image.store.places.roots.get(name)
        view = self._image.view(now=self._now, at=self._at)
        return EXPIRED if root is None else state_of_answers(view, root, address)

    def _rivals(self, binding: Binding, name: str, walks: dict[str, AddressNames]) -> list[str]:
        address = binding.opening.address
        if address not in walks:
            walks[address] = self._image.names_of_address(address, now=self._now, at=self._at)
        names = walks[address].likeliest(connection_of(binding.opening), name)
        return [other for other in names if other != name][:RIVALS]


def selects(asked: Connection, host: str, process: Process | None) -> bool:
    """Return whether a connection of a process is one of the host, process, container and unit that were asked for.

    `container` is a container as `fits_container` reads it, and `unit` the name of a unit or slice.
    """
    process = process or _NOBODY
    return (
        asked.host in (None, host)
        and asked.process in (None, process.pid)
        and (asked.container is None or _is_container(asked.container, process))
        and asked.unit in (None, process.unit, process.slice)
    )


def in_order(opened: Iterable[Binding], cursor: str, difference: int) -> list[tuple[Binding, str]]:
    """Return those of some connections that a page of a past time has not listed yet, each with the cursor behind it.

    The first opened come first. A cursor contains the wall time (ns) at which the last listed connection was opened,
    and how many connections of this time are listed. `difference` is that of ConnectionList.
    """
    since, listed = map(int, cursor.split() or (0, 0))
    found: list[tuple[Binding, str]] = []
    same = last = 0
    for binding in sorted(opened, key=lambda one: (one.stamp, one.number)):
        begun = max(binding.stamp + difference, 0)
        same, last = same + 1 if begun == last else 1, begun
        if begun > since or (begun == since and same > listed):
            found.append((binding, f"{begun} {same}"))
    return found


def _is_container(text: str, process: Process) -> bool:
    names = process.container_id, process.container_name, process.container_image
    return bool(text) and fits_container(*names, text, process.container_labels)
