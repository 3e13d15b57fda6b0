"""What was there before the probe: processes, and the owners of sockets, put into the tables and maps once."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import Protocol

from dnstrail_probe.ebpf.records import OwnerRecord, pack_cookie, pack_owner, pack_place
from dnstrail_probe.host.cgroups import cgroup_id
from dnstrail_probe.host.network_namespaces import all_sockets
from dnstrail_probe.host.process_table import ProcessEntry, ProcessTable
from dnstrail_probe.host.procfs import cgroup_path, process_ids, read_process, sockets_of
from dnstrail_probe.host.sock_diag import OpenSocket


class Maps(Protocol):
    """The loaded programs, of which this fills the maps."""

    cgroup_root: str
    sees_namespaces: bool

    def add(self, table: str, key: bytes, value: bytes) -> None:
        """Put an entry into a map, unless a program has put one there meanwhile."""
        ...


def note_open_sockets(maps: Maps, processes: ProcessTable, ports: Collection[int]) -> int:
    """Take in what /proc and sock_diag tell; gives the number of sockets whose owner was found.

    The programs run already: what they see themselves counts for more, and nothing falls between.
    """
    owners: dict[int, ProcessEntry] = {}
    for pid in process_ids():
        life = read_process(pid)
        if life is None:
            continue
        life.cgroup = cgroup_id(maps.cgroup_root, cgroup_path(pid))
        life = processes.add(life)
        for inode in sockets_of(pid):
            first = owners.setdefault(inode, life)
            if life.start < first.start:  # it was shared by a fork
                owners[inode] = life
    owned = list(_owned(owners))
    for netns, socket, life in owned:
        _add(maps, netns, socket, life, ports)
    return len(owned)


def _owned(owners: dict[int, ProcessEntry]) -> Iterator[tuple[int, OpenSocket, ProcessEntry]]:
    for namespace in all_sockets():
        for socket in namespace.sockets:
            if socket.inode in owners:
                yield namespace.cookie, socket, owners[socket.inode]


def _add(maps: Maps, netns: int, socket: OpenSocket, life: ProcessEntry, ports: Collection[int]) -> None:
    family = 4 if len(socket.destination) == 4 else 6  # noqa: PLR2004 - bytes of an IPv4 address
    owner = OwnerRecord(
        time.monotonic_ns(),
        netns,
        life.cgroup,
        life.pid,
        life.pid,
        life.user,
        socket.destination_port,
        family,
        int(socket.destination_port in ports),
        socket.destination if socket.destination_port else b"",
        life.name.encode(errors="replace")[:15],
    )
    maps.add("owners", pack_cookie(socket.cookie), pack_owner(owner))
    if socket.port in ports and not socket.destination_port:
        place = pack_place(netns if maps.sees_namespaces else 0, socket.protocol, socket.port)
        maps.add("servers", place, pack_owner(owner))
