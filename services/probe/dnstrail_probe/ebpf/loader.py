"""Loads the programs with the system's bcc, and puts them where the kernel takes them off when we end."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from dnstrail.errors import SourceUnavailable
from dnstrail.process.privileges import missing_capabilities
from dnstrail_probe.ebpf import remedies
from dnstrail_probe.ebpf.bpf_link import UPROBE_MULTI, link_cgroup, link_uprobe
from dnstrail_probe.ebpf.btf import Btf, process_offsets, socket_offsets
from dnstrail_probe.ebpf.headers import write_headers
from dnstrail_probe.ebpf.program_text import program_text
from dnstrail_probe.host.cgroups import find_cgroup2
from dnstrail_probe.source import SUDO

NEEDED = ("CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF")
_BCC = Path("/usr/lib/python3/dist-packages/bcc/__init__.py")
_GETADDRINFO = "ebpf:getaddrinfo"  # as --capture names it
_BPF_NOEXIST = 1
# Function -> program type and attach type, by their names in bcc.
_HOOKS = {
    "on_ingress": ("CGROUP_SKB", "CGROUP_INET_INGRESS"),
    "on_egress": ("CGROUP_SKB", "CGROUP_INET_EGRESS"),
    "on_create": ("CGROUP_SOCK", "CGROUP_INET_SOCK_CREATE"),
    "on_post_bind4": ("CGROUP_SOCK", "CGROUP_INET4_POST_BIND"),
    "on_post_bind6": ("CGROUP_SOCK", "CGROUP_INET6_POST_BIND"),
    "on_connect4": ("CGROUP_SOCK_ADDR", "CGROUP_INET4_CONNECT"),
    "on_connect6": ("CGROUP_SOCK_ADDR", "CGROUP_INET6_CONNECT"),
    "on_sendmsg4": ("CGROUP_SOCK_ADDR", "CGROUP_UDP4_SENDMSG"),
    "on_sendmsg6": ("CGROUP_SOCK_ADDR", "CGROUP_UDP6_SENDMSG"),
}
# Function -> whether it runs at the return. The return comes first, so that no call is seen without it.
_UPROBES = {"on_getaddrinfo_return": True, "on_getaddrinfo": False}
# What programs on packets may ask, from the newest kernels to the oldest: of the current task, of the namespace.
_ABILITIES = (
    {"SEES_CURRENT": 1, "SEES_NETNS": 1},
    {"SEES_CURRENT": 1, "SEES_NETNS": 0},
    {"SEES_CURRENT": 0, "SEES_NETNS": 0},
)


class Programs:
    """The loaded programs: their ring buffer, maps and counters; `resolver`: those for getaddrinfo, too.

    Raises:
        SourceUnavailable: something is missing; the text says what, and what to do.
    """

    def __init__(self, ports: frozenset[int], *, first_bytes: bool = False, getaddrinfo: bool = False) -> None:
        _check_capabilities()
        self._bcc = load_bcc()
        root = find_cgroup2()
        if root is None:
            raise SourceUnavailable("ebpf", "no cgroup2 hierarchy is mounted", remedies.CGROUP2)
        self.cgroup_root = root
        self._cgroup = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
        self._links: list[int] = []
        self._bpf: Any = None
        self._wanted = {"FIRST_BYTES": int(first_bytes)}
        self._extra = ("getaddrinfo",) if getaddrinfo else ()
        try:
            self._bpf, self.sees_processes, self.sees_namespaces = self._load(ports)
            if getaddrinfo:
                self._load_uprobes()
        except BaseException:
            self.close()
            raise
        self.ring_fd: int = self._bpf["events"].map_fd
        self._counters = self._bpf["counters"]

    @property
    def lost(self) -> int:
        """Events for which the ring buffer had no room."""
        return self._count(0)

    @property
    def unreadable(self) -> int:
        """Packets whose bytes could not be read."""
        return self._count(1)

    @property
    def calls_unreadable(self) -> int:
        """Calls of getaddrinfo whose name could not be read: it is no text."""
        return self._count(2)

    @property
    def calls_over_budget(self) -> int:
        """Calls of getaddrinfo that were not told, for their process made too many."""
        return self._count(3)

    def program_fd(self, function: str) -> int:
        """The descriptor of a program: its fdinfo tells how often it ran, and how long."""
        return int(self._bpf.funcs[function.encode()].fd)

    def add(self, table: str, key: bytes, value: bytes) -> None:
        """Put an entry into a map, unless a program has put one there meanwhile."""
        self._bcc.lib.bpf_update_elem(self._bpf[table].map_fd, key, value, _BPF_NOEXIST)

    def watch_getaddrinfo(self, file: int, offset: int, pid: int = 0) -> tuple[int, ...]:
        """See the calls of getaddrinfo in an open file, of one process or (0) all, until the descriptors are closed.

        Raises:
            OSError: the kernel refused it.
        """
        links: list[int] = []
        try:
            for function, returns in _UPROBES.items():
                path = f"/proc/self/fd/{file}"
                links.append(link_uprobe(self.program_fd(function), path, offset, returns=returns, pid=pid))
        except OSError:
            for descriptor in links:
                os.close(descriptor)
            raise
        return tuple(links)

    def close(self) -> None:
        """Detach everything."""
        self._detach()
        if self._bpf is not None:
            self._bpf.cleanup()  # raw tracepoints, which bcc attached
            self._bpf = None
        os.close(self._cgroup)

    def _count(self, which: int) -> int:
        return int(self._counters[ctypes.c_int(which)].value)

    def _detach(self) -> None:
        for descriptor in self._links:
            os.close(descriptor)
        self._links.clear()

    def _load(self, ports: frozenset[int]) -> tuple[Any, bool, bool]:
        """The programs, with all that this kernel lets them see."""
        refused: SourceUnavailable | None = None
        for abilities in _ABILITIES:
            bpf, sees_processes = _compile(self._bcc, ports, abilities | self._wanted, self._extra)
            try:
                for function, (program, hook) in _HOOKS.items():
                    self._attach(bpf, function, program, hook)
            except SourceUnavailable as error:
                refused = error
                self._detach()
                bpf.cleanup()
            else:
                return bpf, sees_processes, bool(abilities["SEES_NETNS"])
        raise refused or SourceUnavailable("ebpf", "there is nothing to load")

    def _load_uprobes(self) -> None:
        """Load the programs on getaddrinfo."""
        if not self.sees_processes:  # then none would tell of a library that comes
            raise SourceUnavailable(_GETADDRINFO, "the kernel reports no processes", remedies.BTF)
        for function in _UPROBES:
            try:
                self._bpf.load_func(function, self._bcc.BPFProgType.KPROBE, attach_type=UPROBE_MULTI)
            except Exception as error:
                raise SourceUnavailable(_GETADDRINFO, f"the kernel refused {function}", remedies.UPROBES) from error

    def _attach(self, bpf: Any, function: str, program: str, hook: str) -> None:
        attach_type = getattr(self._bcc.BPFAttachType, hook)
        try:
            loaded = bpf.load_func(function, getattr(self._bcc.BPFProgType, program), attach_type=attach_type)
            self._links.append(link_cgroup(loaded.fd, self._cgroup, int(attach_type)))
        except Exception as error:
            raise SourceUnavailable("ebpf", f"the kernel refused {function}: {error}", remedies.HOOKS) from error


def _check_capabilities() -> None:
    """Refuse early and clearly: bcc would write about it in its own words."""
    missing = missing_capabilities(*NEEDED)
    if missing:
        raise SourceUnavailable("ebpf", f"needs {', '.join(missing)}", SUDO)


def load_bcc() -> ModuleType:
    """Debian's bcc alone, from whichever environment, without the rest of the system's packages."""
    if not _BCC.exists():
        raise SourceUnavailable("ebpf", "bcc is not installed", remedies.BCC)
    spec = importlib.util.spec_from_file_location("bcc", _BCC, submodule_search_locations=[str(_BCC.parent)])
    if spec is None or spec.loader is None:
        raise SourceUnavailable("ebpf", "bcc cannot be loaded", remedies.BCC)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, OSError, SyntaxError) as error:
        raise SourceUnavailable("ebpf", f"bcc does not load ({error})", remedies.BCC) from error
    return module


def _compile(
    bcc: ModuleType, ports: frozenset[int], abilities: dict[str, int], extra: tuple[str, ...]
) -> tuple[Any, bool]:
    """The programs, with process events and what becomes of connections if the kernel lets us have them."""
    with suppress(Exception):  # bcc raises bare Exceptions; without BTF there are no offsets
        btf = Btf()
        offsets = process_offsets(btf) | socket_offsets(btf)
        parts = ("events", "sockets", "dns", "process", "results")
        return _build(bcc, parts + extra, ports, abilities | offsets), True
    try:
        return _build(bcc, ("events", "sockets", "dns", *extra), ports, abilities), False
    except Exception as error:
        raise SourceUnavailable(
            "ebpf",
            f"the programs do not load ({error})",
            f"{remedies.HOOKS}, and CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
        ) from error


def _build(bcc: ModuleType, parts: tuple[str, ...], ports: frozenset[int], defines: dict[str, int]) -> Any:
    return compile_text(bcc, program_text(parts, ports, defines))


def compile_text(bcc: ModuleType, text: str) -> Any:
    """A text as bcc compiles it, without any header of the kernel's."""
    with tempfile.TemporaryDirectory(prefix="dnstrail-headers-") as folder:
        write_headers(Path(folder))
        os.environ["BCC_KERNEL_SOURCE"] = folder
        try:
            return bcc.BPF(text=text, cflags=["-w"])
        finally:
            del os.environ["BCC_KERNEL_SOURCE"]
