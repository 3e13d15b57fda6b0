"""The cost of the eBPF programs for a packet without DNS, beside an empty program, as the kernel measures it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from figures import Figure

from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.bpf import AttachType, ProgramType, link_cgroup
from dnstrail.kernel.cgroups import find_cgroup2
from dnstrail.kernel.objects import LoadedObject, compile_object
from dnstrail_probe.ebpf import loader

COUNT = 100_000
_ENABLED = Path("/proc/sys/kernel/bpf_stats_enabled")
_EMPTY = "int on_ingress(struct __sk_buff *skb) { return 1; }\nint on_egress(struct __sk_buff *skb) { return 1; }\n"


class Cost(NamedTuple):
    """The run time of the two programs for one packet, in nanoseconds."""

    ingress: float
    egress: float


def measure(_capture: str) -> Iterator[Figure]:
    """Measure a packet that enters and one that leaves."""
    try:
        programs = loader.Programs(frozenset({53}))
    except SourceUnavailable as error:
        yield Figure(f"not measured: {error}", None)
        return
    try:
        with _statistics():
            ours = _measure(programs.program_fd)
    finally:
        programs.close()
    with _statistics(), _empty_programs() as program_fd:
        empty = _measure(program_fd)
    for way in Cost._fields:
        cost, least = getattr(ours, way), getattr(empty, way)
        yield Figure(f"a packet without DNS, {way}", cost, "ns")
        yield Figure(f"a packet without DNS, {way}, against an empty program", cost / least, "times")


def _measure(program_fd: Callable[[str], int]) -> Cost:
    """Send packets over the loopback interface from a connected socket; return the median of three runs."""
    runs = []
    for _ in range(3):
        before = [_run(program_fd(name)) for name in ("on_ingress", "on_egress")]
        _send()
        after = [_run(program_fd(name)) for name in ("on_ingress", "on_egress")]
        runs.append([(then[0] - now[0]) / (then[1] - now[1]) for now, then in zip(before, after, strict=True)])
    return Cost(*(sorted(run[hook] for run in runs)[1] for hook in (0, 1)))


def _send() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
    ):
        there.bind(("127.0.0.1", 0))
        here.connect(there.getsockname())
        for _ in range(COUNT):
            here.send(b"x" * 60)
            there.recv(60)


def _run(descriptor: int) -> tuple[int, int]:
    """Return the total run time of a program in nanoseconds, and its number of runs."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["run_time_ns"]), int(fields["run_cnt"])


@contextmanager
def _statistics() -> Iterator[None]:
    """Let the kernel measure its programs within the block."""
    before = _ENABLED.read_text()
    _ENABLED.write_text("1")
    try:
        yield
    finally:
        _ENABLED.write_text(before)


@contextmanager
def _empty_programs() -> Iterator[Callable[[str], int]]:
    """Attach empty programs to the same hooks; yield the function that finds the descriptor of one by name."""
    cgroup = os.open(str(find_cgroup2()), os.O_RDONLY)
    loaded = LoadedObject(compile_object(_EMPTY))
    try:
        for name, hook in (
            ("on_ingress", AttachType.CGROUP_INET_INGRESS),
            ("on_egress", AttachType.CGROUP_INET_EGRESS),
        ):
            loaded.links.append(link_cgroup(loaded.load(name, ProgramType.CGROUP_SKB, hook), cgroup, hook))
        yield loaded.programs.__getitem__
    finally:
        os.close(cgroup)
        loaded.close()
