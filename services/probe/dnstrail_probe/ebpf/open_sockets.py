"""The processes and sockets that are older than the probe, entered into the tables and maps once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

from dnstrail.kernel.cgroups import cgroup_id
from dnstrail.kernel.sock_diag import OpenSocket
from dnstrail_probe.ebpf.records import OwnerRecord, pack_id, pack_owner, pack_place, pack_relay_place
from dnstrail_probe.host.network_namespaces import all_sockets
from dnstrail_probe.host.process_table import ProcessEntry, ProcessTable
from dnstrail_probe.host.procfs import cgroup_path, process_ids, read_process, sockets_of

_IPV4 = 4  # bytes of an address
_LOOPBACK = 127  # its first byte


class Maps(Protocol):
    """The maps of the loaded programs, and the values that the programs can read."""

    cgroup_root: str
    sees_namespaces: bool
    most_owners: int

    def add(self, table: str, key: bytes, value: bytes) -> None:
        """Add an entry to a map, unless a program has added it already."""
        ...

    def refuse_owner(self) -> None:
        """Count a socket that finds no room in the map of owners."""
        ...


def note_open_sockets(
    maps: Maps, processes: ProcessTable, ports: Collection[int], owner_of: Callable[[int], int]
) -> int:
    """Enter the processes of /proc and the sockets of sock_diag; return the number of sockets that were entered.

    The programs run already, so no process and no socket is missed. Entries that the programs made take precedence. The
    sockets of one owner of cgroups (`owner_of`) take no more places than they leave free.
    """
    entered: Counter[int] = Counter()
    count = 0
    for netns, socket, entry in _owned(_owners(maps.cgroup_root, processes)):
        owner = owner_of(entry.cgroup)
        if entered[owner] + count >= maps.most_owners:
            maps.refuse_owner()
            continue
        _add(maps, netns, socket, _owner(netns, socket, entry, noted=time.monotonic_ns(), ports=ports), ports)
        entered[owner] += 1
        count += 1
    return count


def _owners(cgroup_root: str, processes: ProcessTable) -> dict[int, ProcessEntry]:
    """Return the owner of each socket by the inode of the socket; of several processes the one that started first."""
    owners: dict[int, ProcessEntry] = {}
    for pid in process_ids():
        entry = read_process(pid)
        if entry is None:
            continue
        entry.cgroup = cgroup_id(cgroup_root, cgroup_path(pid))
        entry = processes.add(entry)
        for inode in sockets_of(pid):
            first = owners.setdefault(inode, entry)
            if entry.start < first.start:  # a fork shares the socket
                owners[inode] = entry
    return owners


def _owned(owners: dict[int, ProcessEntry]) -> Iterator[tuple[int, OpenSocket, ProcessEntry]]:
    for namespace in all_sockets():
        for socket in namespace.sockets:
            if socket.inode in owners:
                yield namespace.cookie, socket, owners[socket.inode]


def _owner(netns: int, socket: OpenSocket, entry: ProcessEntry, *, noted: int, ports: Collection[int]) -> OwnerRecord:
    return OwnerRecord(
        noted=noted,
        netns=netns,
        cgroup=entry.cgroup,
        charged=0,
        pid=entry.pid,
        tid=entry.pid,
        uid=entry.user,
        meant_port=socket.destination_port,
        family=4 if len(socket.destination) == _IPV4 else 6,
        use=int(socket.destination_port in ports),
        meant=socket.destination if socket.destination_port else b"",
        comm=entry.name.encode(errors="replace")[:15],
    )


def _add(maps: Maps, netns: int, socket: OpenSocket, owner: OwnerRecord, ports: Collection[int]) -> None:
    maps.add("owners", pack_id(socket.cookie), pack_owner(owner))
    if socket.destination_port:
        return
    if socket.port in ports:
        place = pack_place(netns if maps.sees_namespaces else 0, socket.protocol, socket.port)
        maps.add("servers", place, pack_owner(owner))
    elif netns and len(socket.source) == _IPV4 and socket.source[0] == _LOOPBACK:
        place = pack_relay_place(netns, socket.source, socket.protocol, socket.port)
        maps.add("relays", place, pack_id(socket.cookie))
