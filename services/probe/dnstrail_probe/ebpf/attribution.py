"""Who is behind an event: what the programs saw, with what the tables of processes and containers know of it."""

from __future__ import annotations

from dnstrail.captured import Process
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.records import text
from dnstrail_probe.host.cgroups import cgroups
from dnstrail_probe.host.containers import Containers
from dnstrail_probe.host.docker import ContainerNames
from dnstrail_probe.host.process_table import TICK, ProcessEntry, ProcessTable
from dnstrail_probe.host.procfs import executable, read_process

_WALK_AGAIN = 1_000_000_000  # ns until a cgroup that is not known is looked for once more


class Attribution:
    """Keeps the tables in step with the records, in their order. `cgroup_root`: where cgroup2 is mounted."""

    def __init__(self, cgroup_root: str) -> None:
        self.processes = ProcessTable()
        self.containers = Containers()
        self._names = ContainerNames()
        self._root = cgroup_root
        self._walked = 0
        self._walk()

    def who(
        self, packet: records.PacketRecord | records.GetaddrinfoRecord
    ) -> tuple[Process | None, ProcessEntry | None]:
        """The process behind a packet, or a call; None where a socket has no owner that is known."""
        if not packet.pid:
            return None, None
        life = self._life(packet)
        path, parent = (life.path, life.parent) if life else ("", 0)
        name = text(packet.comm)
        return self._process(packet.pid, packet.ts, packet.cgroup, name, path, parent, packet.uid, packet.tid), life

    def started(self, record: bytes) -> Process:
        """A process began to run something."""
        seen = records.read_process(record)
        path = records.read_path(record, seen.parts)
        return self._of(seen, self.processes.executed(seen.ts, _life(seen, path or executable(seen.pid))))

    def forked(self, seen: records.ProcessRecord) -> Process:
        """A process was forked; gives the one that did it, whose copy it is."""
        child = self.processes.forked(_life(seen, ""))
        life = self.processes.at(seen.parent, seen.ts)
        name, parent = (life.name, life.parent) if life else (text(seen.comm), 0)
        return self._process(seen.parent, seen.ts, seen.cgroup, name, child.path, parent, seen.uid, seen.status)

    def ended(self, seen: records.ProcessRecord) -> Process | None:
        """A process has ended; None if that was told before."""
        life = self.processes.exited(seen.ts, _life(seen, ""))
        return self._of(seen, life) if life else None

    def cgroup_changed(self, record: bytes) -> str:
        """A cgroup was made or removed; the folder of one that was made for a new container, else "".

        The name of a container is asked for before its first event needs it.
        """
        seen, path = records.read_cgroup(record)
        if seen.kind != records.CGROUP_MADE:
            self.containers.removed(seen.id, seen.ts)
            return ""
        container = self.containers.made(seen.id, path)
        self._names.of(container)
        return self._root + path if container and container in path.rpartition("/")[2] else ""

    def container_of(self, cgroup: int, now: int) -> str:
        """The container of a cgroup, "" on the host; all cgroups are looked through for one that is not known."""
        found = self.containers.of(cgroup)
        if found is None and cgroup and now - self._walked > _WALK_AGAIN:
            self._walked = now
            self._walk()
            found = self.containers.of(cgroup)
        return found or ""

    def close(self) -> None:
        """Ask about containers no more."""
        self._names.close()

    def _walk(self) -> None:
        """Take in the cgroups there are."""
        for known, path in cgroups(self._root):
            if self.containers.of(known) is None:
                self.containers.made(known, path)

    def _of(self, seen: records.ProcessRecord, life: ProcessEntry) -> Process:
        return self._process(
            seen.pid, seen.ts, seen.cgroup, text(seen.comm), life.path, seen.parent, seen.uid, seen.pid
        )

    def _process(
        self, pid: int, stamp: int, cgroup: int, name: str, path: str, parent: int, user: int, thread: int
    ) -> Process:
        container = self.container_of(cgroup, stamp)
        called = self._names.of(container)
        return Process(pid, name, path, parent, user, container, thread, cgroup, called.name, called.image)

    def _life(self, packet: records.PacketRecord | records.GetaddrinfoRecord) -> ProcessEntry | None:
        """The process that had the pid when it was noted: as its events said, else as /proc still says."""
        life = self.processes.at(packet.pid, packet.noted)
        if life is None or not (life.path or life.looked):
            seen = read_process(packet.pid)
            if seen is not None and seen.start > packet.noted + TICK:
                seen = None  # another one, with the same pid
            if life is None:
                nobody = ProcessEntry(packet.pid, packet.noted, text(packet.comm), looked=True)
                return self.processes.add(seen or nobody)
            life.looked = True
            life.path = seen.path if seen else ""
        return life


def _life(seen: records.ProcessRecord, path: str) -> ProcessEntry:
    return ProcessEntry(seen.pid, seen.ts, text(seen.comm), path, seen.parent, seen.uid, seen.cgroup)
