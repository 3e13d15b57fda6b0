"""Attributes an event to its process: joins the record with the tables of processes and containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

from dnstrail.captured import Process
from dnstrail.kernel.cgroups import cgroup_id, cgroups, is_roots
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.records import command_name, text
from dnstrail_probe.host.container_name import NAMELESS
from dnstrail_probe.host.container_names import ContainerNames
from dnstrail_probe.host.containers import Containers
from dnstrail_probe.host.process_table import TICK, ProcessEntry, ProcessTable
from dnstrail_probe.host.procfs import executable, read_process
from dnstrail_probe.host.user_names import UserNames

WALKED = 512  # cgroups that one search for an unknown one looks at: the next search goes on there
_WALK_AGAIN = 1_000_000_000  # ns between two searches


class Attribution:
    """The processes and containers of this host, as of the last record that was passed in.

    Records must be passed in their order in the ring buffer: only then does a pid lead to the process that had it.
    `cgroup_root` is where cgroup2 is mounted. `boot` is the boot of the host in ns since the epoch; it is fixed, so
    that the start time of a process never changes. `note_owner` receives the owner of each cgroup. `labels` are the
    keys of the labels of containers that are read.
    """

    def __init__(
        self,
        cgroup_root: str,
        boot: int,
        note_owner: Callable[[int, int], None] = lambda _cgroup, _owner: None,
        labels: tuple[str, ...] = (),
    ) -> None:
        self.processes = ProcessTable()
        self.containers = Containers(
            partial(is_roots, cgroup_root),
            partial(cgroup_id, cgroup_root),
            note_owner=note_owner,
            user_name=UserNames().of,
        )
        self.names = ContainerNames(labels=labels)
        self._root = cgroup_root
        self._boot = boot
        self._walked = 0
        self._walking: Iterator[tuple[int, str]] = cgroups(cgroup_root)
        self._walk(None)

    def process_of(
        self, record: records.PacketRecord | records.GetaddrinfoRecord
    ) -> tuple[Process | None, ProcessEntry | None]:
        """Return the process behind a packet or a call, and its entry; None for a socket without a known owner."""
        if not record.pid:
            return None, None
        entry = self._entry_of(record.pid, record.noted, record.comm)
        process = self._process(
            entry, record.pid, record.ts, record.cgroup, command_name(record.comm), record.uid, record.tid
        )
        return process, entry

    def relay_of(self, record: records.PacketRecord) -> tuple[tuple[int, int], ProcessEntry]:
        """Return the process to which NAT passes a packet: its pid and its start, and its entry."""
        entry = self._entry_of(record.relay, record.ts, b"")
        return (record.relay, self._start_of(entry)), entry

    def executed(self, record: bytes) -> Process:
        """Apply an exec; return the process with the program that it now runs."""
        head = records.read_process(record)
        path = records.read_path(record, head.parts)
        return self._itself(head, self.processes.executed(head.ts, _entry(head, path or executable(head.pid))))

    def forked(self, head: records.ProcessRecord) -> Process:
        """Apply a fork; return the process that forked, of which the child is a copy."""
        child = self.processes.forked(_entry(head, ""))
        entry = self.processes.at(head.parent, head.ts)
        return self._process(
            entry or ProcessEntry(pid=head.parent, start=head.ts, path=child.path),
            head.parent,
            head.ts,
            head.cgroup,
            entry.name if entry else text(head.comm),
            head.uid,
            head.status,
        )

    def exited(self, head: records.ProcessRecord) -> Process | None:
        """Apply an exit; return the process, or None if its exit was reported before."""
        entry = self.processes.exited(head.ts, _entry(head, ""))
        return self._itself(head, entry) if entry else None

    def cgroup_changed(self, record: bytes) -> str:
        """Apply the creation or removal of a cgroup; return the folder of a cgroup made for a new container, else "".

        The name of the container is requested here, before its first event needs it.
        """
        head, path = records.read_cgroup(record)
        if head.kind != records.CGROUP_MADE:
            self.containers.removed(head.id, head.ts)
            return ""
        container = self.containers.made(head.id, path, head.ts)
        self.names.of(container, self.containers.runtime(head.id))
        return self._root + path if container and container in path.rpartition("/")[2] else ""

    def container_of(self, cgroup: int, now: int) -> str:
        """Return the container of a cgroup, "" on the host; an unknown cgroup is searched for once a second.

        A user can make many cgroups: one search looks at WALKED of them.
        """
        found = self.containers.of(cgroup)
        if found is not None:
            return found
        if cgroup and now - self._walked > _WALK_AGAIN:
            self._walked = now
            self._walk(WALKED)
            found = self.containers.of(cgroup)
        return found or ""

    def owner_of(self, cgroup: int) -> int:
        """Return the owner of a cgroup as it was last looked at; 0 for cgroup 0, which is none."""
        return self.containers.owner(cgroup, 0) if cgroup else 0

    def cgroup_name(self, cgroup: int) -> str:
        """Return a name of a cgroup for people: the name or id of its container, else its path; "" if it is unknown."""
        container = self.containers.of(cgroup) or ""
        return (
            self.names.of(container, self.containers.runtime(cgroup)).name or container or self.containers.path(cgroup)
        )

    def close(self) -> None:
        """Stop the requests for names of containers."""
        self.names.close()

    def _walk(self, most: int | None) -> None:
        """Look at some cgroups of this host, or at all, and add those that are unknown."""
        looked = 0
        for cgroup, path in islice(self._walking, most):
            looked += 1
            if self.containers.of(cgroup) is None:
                self.containers.made(cgroup, path, self._walked)
        if most is None or looked < most:
            self._walking = cgroups(self._root)

    def _itself(self, head: records.ProcessRecord, entry: ProcessEntry) -> Process:
        """Return the process that a record of an exec or exit is about."""
        return self._process(entry, head.pid, head.ts, head.cgroup, text(head.comm), head.uid, head.pid)

    def _process(
        self, entry: ProcessEntry, pid: int, stamp: int, cgroup: int, name: str, user: int, thread: int
    ) -> Process:
        container = self.container_of(cgroup, stamp)
        shown = self.names.of(container, self.containers.runtime(cgroup)) if container else NAMELESS
        fields = (
            pid,
            name,
            entry.path,
            entry.parent,
            user,
            container,
            thread,
            cgroup,
            shown.name,
            shown.image,
            entry.mount_namespace,
            entry.pid_namespace,
            self._start_of(entry),
            self.containers.owner(cgroup, stamp) if cgroup else 0,
            *self.containers.unit(cgroup),
            shown.labels,
        )
        if entry.reported is None or entry.reported[0] != fields:
            entry.reported = fields, Process(*fields)
        return entry.reported[1]

    def _start_of(self, entry: ProcessEntry) -> int:
        """Return the start of a process in ns since the epoch, 0 if it is unknown."""
        return self._boot + entry.started if entry.started else 0

    def _entry_of(self, pid: int, noted: int, name: bytes) -> ProcessEntry:
        """Return the process that had the pid when the program noted it: by its events, else by /proc."""
        entry = self.processes.at(pid, noted)
        if entry is not None and (entry.path or entry.proc_read):
            return entry
        found = read_process(pid)
        if found is not None and found.start > noted + TICK:
            found = None  # a later process with the same pid
        if entry is None:
            unknown = ProcessEntry(pid=pid, start=noted, name=text(name), proc_read=True)
            return self.processes.add(found or unknown)
        entry.proc_read = True
        entry.path = found.path if found else ""
        return entry


def _entry(head: records.ProcessRecord, path: str) -> ProcessEntry:
    return ProcessEntry(
        pid=head.pid,
        start=head.ts,
        name=text(head.comm),
        path=path,
        parent=head.parent,
        user=head.uid,
        cgroup=head.cgroup,
        started=head.started,
        mount_namespace=head.mount_namespace,
        pid_namespace=head.pid_namespace,
    )
