"""The eBPF source: reads the ring buffer and returns its records as events."""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections import Counter
from types import MappingProxyType

from dnstrail.capture_options import CaptureOptions
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

_PAGE = mmap.PAGESIZE
_HEAD = 8  # bytes before each record: its length with two flags, and an offset
_BUSY, _DISCARDED = 1 << 31, 1 << 30
_SIZE = _DISCARDED - 1  # the length without the flags
_LENGTH = struct.Struct("I")
_AT_ONCE = 1 << 19  # bytes that one call reads
_WINDOW = 1 << 21  # bytes of the data that are mapped at once
_KERNEL_LOSSES = ("ring_full", "unreadable", "ipv6_too_many_extensions", "owners_refused")


class RingBuffer:
    """The reading end of a ring buffer, which must have no other reader.

    Relies on ordered loads, which x86-64 guarantees: a record is read after its length states that it is complete. The
    kernel offers the data twice in a row, so a record is never split at the end of the buffer. Only a window of it is
    mapped, which moves with the reader: all mapped pages count as memory of this process.
    """

    def __init__(self, map_fd: int, size: int) -> None:
        self._file = map_fd
        self._mask = size - 1
        self._at_once = min(_AT_ONCE, size)
        self._most = 2 * size
        self._consumer = mmap.mmap(map_fd, _PAGE)
        self._producer = mmap.mmap(map_fd, _PAGE, prot=mmap.PROT_READ, offset=_PAGE)
        # A view reads and writes a position by one instruction. `struct` moves it byte by byte, and writes zeros first.
        self._read = memoryview(self._consumer).cast("Q")
        self._written = memoryview(self._producer).cast("Q")
        self._at = self._read[0]
        self._begin = 0  # of the window in the data
        self._window = self._map()

    def drain(self) -> list[bytes]:
        """Return the complete records, in their order; half a mebibyte at most."""
        start = at = self._place()
        data = self._window
        last = start + min(self._written[0] - self._at, self._at_once)
        records: list[bytes] = []
        while at < last:
            (length,) = _LENGTH.unpack_from(data, at)
            begin = at + _HEAD
            after = begin + ((length & _SIZE) + 7 & -8)
            if length & _BUSY or after > last:
                break
            if not length & _DISCARDED:
                records.append(data[begin : begin + length])
            at = after
        if at > start:
            self._at += at - start
            self._read[0] = self._at
        return records

    def close(self) -> None:
        """Unmap the buffer."""
        self._read.release()
        self._written.release()
        for mapped in (self._consumer, self._producer, self._window):
            mapped.close()

    def _place(self) -> int:
        """Return where the next record begins in the window; move the window if it may end before what is read now."""
        place = (self._at & self._mask) - self._begin
        if place < 0 or place + self._at_once > len(self._window):
            self._window.close()
            self._begin = min((self._at & self._mask) & -_PAGE, self._most - min(_WINDOW, self._most))
            self._window = self._map()
        return (self._at & self._mask) - self._begin

    def _map(self) -> mmap.mmap:
        length = min(_WINDOW, self._most)
        return mmap.mmap(self._file, length, prot=mmap.PROT_READ, offset=2 * _PAGE + self._begin)


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
        self._cgroup_names: dict[int, str] = {}
        self._ring = RingBuffer(self._programs.ring_fd, sizes.ring_pages * os.sysconf("SC_PAGESIZE"))
        self._attribution = Attribution(
            self._programs.cgroup_root, _boot_time(clock), self._programs.note_owner_of_cgroup
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
        found = self._ring.drain()
        if not found:
            time.sleep(timeout)
            found = self._ring.drain()
        captures = [event for record in found for event in self._translator.events(record)]
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
        self._programs.close()

    def _count_losses(self) -> None:
        counts = {
            **self._programs.counts,
            "processes_dropped": self._attribution.processes.dropped,
            "cgroups_dropped": self._attribution.containers.dropped,
            "container_names_failed": self._attribution.names.failed,
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
