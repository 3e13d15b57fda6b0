"""The processes and sockets that are older than the probe, entered into the tables and maps once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from dnstrail.kernel.cgroups import cgroup_id
from dnstrail.kernel.libc import call
from dnstrail.kernel.sock_diag import OpenSocket, namespace_cookie, open_sockets
from dnstrail_probe.ebpf.loader import Programs
from dnstrail_probe.ebpf.records import OwnerRecord, pack_id, pack_owner, pack_place, pack_relay_place
from dnstrail_probe.host.process_table import ProcessEntry, ProcessTable
from dnstrail_probe.host.procfs import cgroup_path, network_namespaces, process_ids, read_process, sockets_of

_CLONE_NEWNET = 0x40000000
_IPV4 = 4  # bytes of an address
_LOOPBACK = 127  # its first byte


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


def note_open_sockets(
    programs: Programs, processes: ProcessTable, ports: Collection[int], owner_of: Callable[[int], int]
) -> int:
    """Enter the processes of /proc and the sockets of sock_diag; return the number of sockets that were entered.

    The programs run already, so no process and no socket is missed. Entries that the programs made take precedence. The
    sockets of one owner of cgroups (`owner_of`) take no more places than they leave free.
    """
    entered: Counter[int] = Counter()
    count = 0
    for netns, socket, entry in _owned(_owners(programs.cgroup_root, processes)):
        owner = owner_of(entry.cgroup)
        if entered[owner] + count >= programs.most_owners:
            programs.refuse_owner()
            continue
        _add(programs, netns, socket, _owner(netns, socket, entry, noted=time.monotonic_ns(), ports=ports), ports)
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


def _add(programs: Programs, netns: int, socket: OpenSocket, owner: OwnerRecord, ports: Collection[int]) -> None:
    programs.add("owners", pack_id(socket.cookie), pack_owner(owner))
    if socket.destination_port:
        return
    if socket.port in ports:
        space = netns if programs.sees_namespaces else 0
        place = pack_place(space, socket.source, socket.protocol, socket.port)
        programs.add("servers", place, pack_owner(owner._replace(charged=socket.cookie)))
    elif netns and len(socket.source) == _IPV4 and socket.source[0] == _LOOPBACK:
        place = pack_relay_place(netns, socket.source, socket.protocol, socket.port)
        programs.add("relays", place, pack_id(socket.cookie))
