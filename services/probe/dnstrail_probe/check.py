"""What this host can do for the probe, and what it cannot: the reason, and the remedy (`dnstrail probe --check`)."""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from dnstrail.errors import SourceUnavailable
from dnstrail.process.privileges import missing_capabilities
from dnstrail_probe.ebpf.btf import Btf, process_offsets
from dnstrail_probe.ebpf.getaddrinfo.seccomp_trial import REMEDY as UPROBES
from dnstrail_probe.ebpf.loader import BTF, Programs, load_bcc
from dnstrail_probe.host.cgroups import find_cgroup2
from dnstrail_probe.host.docker import docker_socket
from dnstrail_probe.options import CaptureOptions
from dnstrail_probe.sources.af_packet import AfPacketSource

_OLDEST_KERNEL = (5, 10)
_SUDO = "run it with sudo"
_HOOKS = "Linux 5.10 or newer with CONFIG_CGROUP_BPF"
_CGROUP2 = "mount -t cgroup2 none /sys/fs/cgroup"
_BCC = "apt-get install python3-bpfcc"
_REMEDIES = (_SUDO, _CGROUP2, _BCC, BTF, UPROBES)  # that errors end with
_LONGEST = 200  # characters of a reason: bcc may tell the whole program
_PATIENCE = 2.0  # seconds for the Docker daemon
# Capability -> what it is for.
_CAPABILITIES = {
    "CAP_BPF": "ebpf",
    "CAP_PERFMON": "ebpf",
    "CAP_NET_ADMIN": "ebpf",
    "CAP_NET_RAW": "packet",
    "CAP_SYS_PTRACE": "processes of others, by what they run",
    "CAP_DAC_READ_SEARCH": "cgroups and sockets of others that are older than the probe",
    "CAP_SYS_ADMIN": "sockets in other network namespaces that are older than the probe",
}


class CheckResult(msgspec.Struct, frozen=True):
    """One thing: what it is for, whether it is there; why not, and what to do."""

    name: str
    purpose: str
    able: bool
    reason: str = ""
    remedy: str = ""


class Report(msgspec.Struct, frozen=True):
    """All of them, the source that `--capture auto` would take, and whether it is a live one."""

    auto: str
    live: bool
    checks: list[CheckResult]


def check_host(options: CaptureOptions, run_dir: Path) -> Report:
    """Look at everything; programs and sockets are really opened, for a moment, and all is taken back."""
    checks = [
        _kernel(platform.release()),
        _look("cgroup2", "ebpf", _cgroup2, _CGROUP2),
        _look("BTF", "ebpf: processes and containers", lambda: process_offsets(Btf()), BTF),
        _look("bcc", "ebpf", load_bcc, _BCC),
        *_capabilities(),
        *_programs(options),
        _look("uprobes", "ebpf:getaddrinfo", lambda: Programs(options.ports, getaddrinfo=True).close(), UPROBES),
        _look("AF_PACKET socket", "packet", lambda: AfPacketSource(options).close(), _SUDO),
        _look("socket folder", "dnstap", lambda: _folder(run_dir), "--capture dnstap:PATH, or --run-dir"),
        _look("Docker socket", "names and images of containers", _docker, "start Docker, or join its group"),
    ]
    able = {finding.name for finding in checks if finding.able}
    auto = "ebpf" if "programs" in able else "packet" if "AF_PACKET socket" in able else "demo"
    return Report(auto, auto != "demo", checks)


def _look(name: str, purpose: str, look: Callable[[], object], remedy: str) -> CheckResult:
    try:
        look()
    except SourceUnavailable as error:
        reason, _, last = error.reason.rpartition(": ")
        if last in _REMEDIES:
            return CheckResult(name, purpose, False, reason[:_LONGEST], last)
        return CheckResult(name, purpose, False, error.reason[:_LONGEST], remedy)
    except (OSError, ValueError, KeyError) as error:
        return CheckResult(name, purpose, False, getattr(error, "strerror", None) or str(error), remedy)
    return CheckResult(name, purpose, True)


def _kernel(release: str) -> CheckResult:
    number = tuple(map(int, re.findall(r"\d+", release)[:2]))
    able = number >= _OLDEST_KERNEL
    reason = "" if able else f"{release} is older than 5.10"
    return CheckResult("kernel", "ebpf", able, reason, "" if able else "a newer kernel; --capture packet needs none")


def _capabilities() -> Iterator[CheckResult]:
    for name, purpose in _CAPABILITIES.items():
        able = not missing_capabilities(name)
        yield CheckResult(name, purpose, able, "" if able else "not in effect", "" if able else _SUDO)


def _programs(options: CaptureOptions) -> Iterator[CheckResult]:
    """The programs on cgroup hooks, loaded and attached; whether they tell of processes is known only then."""
    sees_processes = False

    def load() -> None:
        nonlocal sees_processes
        programs = Programs(options.ports, first_bytes=options.server_names)
        sees_processes = programs.sees_processes
        programs.close()

    loaded = _look("programs", "ebpf: they load, and attach to cgroup hooks", load, _HOOKS)
    yield loaded
    reason = "" if sees_processes else "the kernel refused them" if loaded.able else "the programs do not load"
    remedy = "" if sees_processes else BTF if loaded.able else "see above"
    yield CheckResult("process events", "ebpf: who is behind a packet", sees_processes, reason, remedy)


def _cgroup2() -> None:
    if find_cgroup2() is None:
        raise OSError("no cgroup2 hierarchy is mounted")


def _folder(folder: Path) -> None:
    """A folder that is there, or can be made, and that we may write."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        raise OSError(f"{there} may not be written")


def _docker() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(docker_socket())
        except OSError as error:
            raise OSError(f"{docker_socket()}: {error.strerror or error}") from error
