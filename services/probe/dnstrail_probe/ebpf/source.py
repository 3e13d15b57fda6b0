"""The eBPF source: what the ring buffer gives, as events with their processes."""

from __future__ import annotations

import os
import time
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

from dnstrail.events import (
    NET_PACKET_DNS,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    Captured,
    Flow,
    Process,
)
from dnstrail_probe.captures import Captures
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.loader import RING_PAGES, Programs
from dnstrail_probe.ebpf.ring import Ring

_KNOWN_PATHS = 65536


class EbpfSource:
    """DNS packets of every socket of the host, and the processes behind them.

    Raises:
        SourceUnavailable: this host or user cannot have it; the text says why.
    """

    live = True

    def __init__(self, ports: frozenset[int]) -> None:
        self.name = "ebpf"
        self.counters: Counter[str] = Counter()
        self._programs = Programs(ports)
        self._ring = Ring(self._programs.ring_fd, RING_PAGES * os.sysconf("SC_PAGESIZE"))
        self._paths: OrderedDict[int, str] = OrderedDict()
        self._epoch = 0

    def read(self, timeout: float) -> Captures | None:
        """What has come; waits for `timeout` seconds where nothing has."""
        found = self._ring.drain()
        if not found:
            time.sleep(timeout)
            found = self._ring.drain()
        self._epoch = time.time_ns() - time.monotonic_ns()
        self._count_losses()
        return [event for record in found if (event := self._event(record))]

    def close(self) -> None:
        """Detach everything."""
        self._ring.close()
        self._programs.close()

    def _count_losses(self) -> None:
        for reason, count in (("ring_full", self._programs.lost), ("unreadable", self._programs.unreadable)):
            if count:
                self.counters[reason] = count

    def _event(self, record: bytes) -> tuple[str, Captured] | None:
        kind = records.kind_of(record)
        if kind == records.PACKET:
            return self._packet(record)
        process = records.read_process(record)
        if kind == records.EXEC:
            return SCHED_PROCESS_EXEC, self._started(record, process)
        return SCHED_PROCESS_EXIT, self._ended(process)

    def _packet(self, record: bytes) -> tuple[str, Captured] | None:
        packet, payload = records.read_packet(record)
        self.counters["packets"] += 1
        if packet.protocol != records.UDP:
            self.counters["tcp"] += 1
            return None
        size = 4 if packet.family == 4 else 16  # noqa: PLR2004 - the family as the program says it
        flow = Flow(
            packet.saddr[:size],
            packet.sport,
            packet.daddr[:size],
            packet.dport,
            "udp",
            packet.cookie,
            packet.netns,
            bool(packet.egress),
            packet.meant[:size] if packet.meant_port else b"",
            packet.meant_port,
        )
        process = None
        if packet.pid:
            process = Process(packet.pid, _text(packet.comm), self._path(packet.pid), 0, packet.uid)
        return NET_PACKET_DNS, Captured(packet.ts + self._epoch, payload, flow, process)

    def _started(self, record: bytes, process: records.Process) -> Captured:
        path = records.read_path(record, process.parts)
        self._paths.pop(process.pid, None)
        if path is not None:
            self._remember(process.pid, path)
        return self._of(process, self._path(process.pid), {})

    def _ended(self, process: records.Process) -> Captured:
        code, signal = process.status >> 8 & 0xFF, process.status & 0x7F
        args = {"exit_code": code, "signal_code": signal, "process_group_exit": True}
        path = self._path(process.pid) or self._paths.get(process.parent, "")  # it never ran anything else
        self._paths.pop(process.pid, None)
        return self._of(process, path, args)

    def _of(self, process: records.Process, path: str, args: dict[str, Any]) -> Captured:
        who = Process(process.pid, _text(process.comm), path, process.parent, process.uid)
        return Captured(process.ts + self._epoch, b"", None, who, args)

    def _path(self, pid: int) -> str:
        """What a process runs: as its exec said, else as /proc still says."""
        path = self._paths.get(pid)
        if path is None:
            try:
                path = str(Path(f"/proc/{pid}/exe").readlink())
            except OSError:
                path = ""
            self._remember(pid, path)
        return path

    def _remember(self, pid: int, path: str) -> None:
        self._paths[pid] = path
        while len(self._paths) > _KNOWN_PATHS:
            self._paths.popitem(last=False)


def _text(comm: bytes) -> str:
    return comm.partition(b"\0")[0].decode(errors="backslashreplace")
