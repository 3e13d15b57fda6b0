"""The eBPF source: reads the ring buffer and returns its records as events."""

from __future__ import annotations

import os
import time
from collections import Counter
from types import MappingProxyType

from dnstrail.capture_options import CaptureOptions
from dnstrail.kernel.ring_buffer import RingBuffer
from dnstrail.process.clock import StreamClock
from dnstrail.protocol.batches import CgroupLoss
from dnstrail_probe.ebpf.attribution import Attribution
from dnstrail_probe.ebpf.cgroup_losses import CgroupLosses, WithStreams
from dnstrail_probe.ebpf.getaddrinfo.calls import GetaddrinfoCalls
from dnstrail_probe.ebpf.getaddrinfo.seccomp_trial import try_watching
from dnstrail_probe.ebpf.loader import SIZES, Programs, Sizes
from dnstrail_probe.ebpf.open_sockets import note_open_sockets
from dnstrail_probe.ebpf.record_translator import RecordTranslator
from dnstrail_probe.host.container_names import ContainerNames
from dnstrail_probe.packets.assembly import LOSSES, Assembly
from dnstrail_probe.source import KERNEL, Captures

_ENOUGH = 256  # events of one read
_MOST_DRAINS = 16  # of the ring buffer in one read: 8 MiB, as records that complete no event
_KERNEL_LOSSES = ("ring_full", "unreadable", "ipv6_too_many_extensions", "owners_refused")


class EbpfSource:
    """The DNS packets of every socket of the host, connections and processes, each with the process behind it.

    The times of all events and processes are times of `clock`. `getaddrinfo`: report calls of getaddrinfo as well. The
    programs stay attached until `close`, or until this process ends, even by a kill.

    Raises:
        SourceUnavailable: this host or user cannot use it; the error names the remedy.
    """

    live = True
    damage = ""
    losses = MappingProxyType({**dict.fromkeys(_KERNEL_LOSSES, KERNEL), **LOSSES})
    # BPF: to read the counters before Linux 5.19, and to attach to new libraries. SYS_PTRACE: to read /proc/PID/exe.
    capabilities = ("CAP_BPF", "CAP_SYS_PTRACE")

    def __init__(
        self, options: CaptureOptions, clock: StreamClock, *, getaddrinfo: bool = False, sizes: Sizes = SIZES
    ) -> None:
        self.name = "ebpf:getaddrinfo" if getaddrinfo else "ebpf"
        self.counters: Counter[str] = Counter()
        self._clock = clock
        ports = options.ports
        self._programs = load_programs(options, getaddrinfo=getaddrinfo, sizes=sizes)
        self.descriptor = self._programs.ring_fd
        self.begun = self._programs.cgroups_made_fd
        self._cgroup_names: dict[int, str] = {}
        page = os.sysconf("SC_PAGESIZE")
        self._ring = RingBuffer(self._programs.ring_fd, sizes.ring_pages * page)
        self._cgroups_made = RingBuffer(self._programs.cgroups_made_fd, page)
        self._attribution = Attribution(
            self._programs.cgroup_root, _boot_time(clock), self._programs.note_owner_of_cgroup, options.labels
        )
        self._assembly = Assembly(options, self.counters)
        self._losses = CgroupLosses(
            WithStreams(self._programs.losses, self._assembly.evicted), self._attribution.owner_of
        )
        self.counters["sockets_found"] = note_open_sockets(
            self._programs, self._attribution.processes, ports, self._attribution.owner_of
        )
        watch = self._programs.watch_getaddrinfo
        self._getaddrinfo = GetaddrinfoCalls(watch, self.counters, self.capabilities) if getaddrinfo else None
        self._translator = RecordTranslator(
            epoch=clock.epoch,
            ports=ports,
            attribution=self._attribution,
            assembly=self._assembly,
            counters=self.counters,
            getaddrinfo=self._getaddrinfo,
        )

    @property
    def lost_by_cgroup(self) -> tuple[CgroupLoss, ...]:
        """The losses of the kernel, and the evicted TCP streams, since the start, by cgroup, then by owner."""
        worst, owners, known = self._losses.worst, self._losses.owners, self._cgroup_names
        name, owner_of = self._attribution.cgroup_name, self._attribution.owner_of
        self._cgroup_names = {each: name(each) or known.get(each, "") for each in (*worst, *owners)}  # some are gone
        named = [CgroupLoss(each, lost, self._cgroup_names[each], owner_of(each)) for each, lost in worst.items()]
        owned = [CgroupLoss(0, lost, self._cgroup_names[each], each) for each, lost in owners.items()]
        return tuple(sorted(named + owned, key=lambda loss: -loss.lost))

    @property
    def names(self) -> ContainerNames:
        """The names of containers, some of which arrive after the first events of their containers."""
        return self._attribution.names

    def read(self, timeout: float) -> Captures | None:
        """Return the events that have arrived; wait `timeout` seconds if there are none."""
        self._cgroups_made.drain()
        captures = self._drain()
        if not captures and timeout:
            time.sleep(timeout)
            captures = self._drain()
        captures += self._assembly.advance(self._clock.now())
        self._count_losses()
        return captures

    def close(self) -> None:
        """Detach the programs and stop all threads."""
        self._attribution.close()
        self._translator.close()
        if self._getaddrinfo:
            self._getaddrinfo.close()
        self._ring.close()
        self._cgroups_made.close()
        self._programs.close()

    def _drain(self) -> Captures:
        """Return the events of the records that wait. A few large records must not wait for the next turn."""
        captures: Captures = []
        for _ in range(_MOST_DRAINS):
            found = self._ring.drain()
            captures += [event for record in found for event in self._translator.events(record)]
            if not found or len(captures) >= _ENOUGH:
                break
        return captures

    def _count_losses(self) -> None:
        counts = {
            **self._programs.counts,
            "processes_dropped": self._attribution.processes.dropped,
            "cgroups_dropped": self._attribution.containers.dropped,
            "container_names_failed": self._attribution.names.failed,
            "container_names_late": self._attribution.names.late,
            "container_names_unknown": self._attribution.names.unknown,
            "pod_owners_failed": self._attribution.names.owners_failed,
            "container_labels_left_out": self._attribution.names.labels_left_out,
        }
        for reason, count in counts.items():
            if count:
                self.counters[reason] = count
        self._losses.update(sum(counts[reason] for reason in _KERNEL_LOSSES) + self.counters["tcp_evicted"])


def load_programs(options: CaptureOptions, *, getaddrinfo: bool = False, sizes: Sizes = SIZES) -> Programs:
    """Load the programs; with `getaddrinfo`, also try the uprobes on a process of our own.

    Raises:
        SourceUnavailable: this host or user cannot have them.
    """
    programs = Programs(options.ports, first_bytes=options.server_names, getaddrinfo=getaddrinfo, sizes=sizes)
    try:
        if getaddrinfo:
            try_watching(programs.watch_getaddrinfo)
    except BaseException:
        programs.close()
        raise
    return programs


def _boot_time(clock: StreamClock) -> int:
    """Return when this host booted, as a time of the clock in ns."""
    return clock.now() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
