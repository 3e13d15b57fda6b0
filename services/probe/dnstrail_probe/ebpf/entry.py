"""The eBPF source as the registry lists it: how it is opened, and what it needs of the host."""

from __future__ import annotations

import platform
import re
import socket

from dnstrail.capture_options import CaptureOptions
from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.cgroups import find_cgroup2
from dnstrail.kernel.compiler import REMEDY as BCC
from dnstrail.kernel.compiler import load_bcc
from dnstrail_probe.check import Check, Host, capability
from dnstrail_probe.ebpf.btf import Btf, process_offsets
from dnstrail_probe.ebpf.loader import BTF, CGROUP2, HOOKS, KERNEL, UPROBES
from dnstrail_probe.ebpf.source import EbpfSource, load_programs
from dnstrail_probe.host.docker import docker_socket
from dnstrail_probe.source import Opening

_OLDEST_KERNEL = (5, 10)
_PATIENCE = 2.0  # seconds for the Docker daemon


def open_source(opening: Opening) -> EbpfSource:
    """Load the programs and open the ring buffer; the argument "getaddrinfo" adds the uprobes."""
    return EbpfSource(opening.options, opening.clock, getaddrinfo=opening.argument == "getaddrinfo")


def check_release(release: str) -> None:
    """Raise ValueError if a kernel release is too old."""
    if tuple(map(int, re.findall(r"\d+", release)[:2])) < _OLDEST_KERNEL:
        raise ValueError(f"{release} is older than 5.10")


def _find_cgroup2(_: Host) -> None:
    if find_cgroup2() is None:
        raise OSError("no cgroup2 hierarchy is mounted")


def _reports_processes(options: CaptureOptions) -> bool:
    """Load and attach the programs for a moment; return whether they report processes."""
    programs = load_programs(options)
    try:
        return programs.sees_processes
    finally:
        programs.close()


def _check_process_events(host: Host) -> None:
    if not host.once(_reports_processes):
        raise SourceUnavailable("ebpf", "the kernel refused them")


def _try_uprobes(host: Host) -> None:
    load_programs(host.options, getaddrinfo=True).close()


def _connect_docker(_: Host) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(docker_socket())
        except OSError as error:
            raise OSError(f"{docker_socket()}: {error.strerror or error}") from error


CHECKS = (
    Check("kernel", "ebpf", lambda _: check_release(platform.release()), KERNEL),
    Check("cgroup2", "ebpf", _find_cgroup2, CGROUP2),
    Check("BTF", "ebpf: processes and containers", lambda _: process_offsets(Btf()), BTF),
    Check("bcc", "ebpf", lambda _: load_bcc(), BCC),
    capability("CAP_BPF", "ebpf"),
    capability("CAP_PERFMON", "ebpf"),
    capability("CAP_NET_ADMIN", "ebpf"),
    capability("CAP_SYS_PTRACE", "executables of other users' processes"),
    capability("CAP_DAC_READ_SEARCH", "cgroups and sockets that are older than the probe; homes of users"),
    capability("CAP_SYS_ADMIN", "older sockets in other network namespaces"),
    Check("programs", "ebpf: load and attach", lambda host: host.once(_reports_processes), HOOKS, decisive=True),
    Check("process events", "ebpf: the process behind a packet", _check_process_events, BTF),
    Check("uprobes", "ebpf:getaddrinfo", _try_uprobes, UPROBES),
    Check("Docker socket", "names of Docker's containers", _connect_docker, "start Docker, or join its group"),
)
