"""Assembles the programs, and loads them with the system's bcc. The kernel detaches them when this process ends."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.bpf import UPROBE_MULTI, compile_text, link_cgroup, link_uprobe, load_bcc
from dnstrail.kernel.capabilities import missing_capabilities
from dnstrail.kernel.cgroups import find_cgroup2
from dnstrail_probe.ebpf import records
from dnstrail_probe.ebpf.btf import Btf, byte_offsets, process_offsets, socket_offsets
from dnstrail_probe.ebpf.cgroup_losses import LossMap
from dnstrail_probe.source import SUDO

_HERE = Path(__file__).with_name("programs")
_TIERS = (128, 512, 4096, 16384, 65536)
# The remedies for what eBPF needs: for errors, and for `dnstrail probe --check`.
KERNEL = "a newer kernel; --capture packet works on any"
CGROUP2 = "mount -t cgroup2 none /sys/fs/cgroup"
BTF = "a kernel with CONFIG_DEBUG_INFO_BTF"
HOOKS = "Linux 5.10 or newer with CONFIG_CGROUP_BPF"
UPROBES = "Linux 6.14 or newer, or 6.6 to 6.10, with CONFIG_UPROBES"
NEEDED = ("CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF")
_GETADDRINFO = "ebpf:getaddrinfo"  # as --capture names it
_BPF_ANY, _BPF_NOEXIST = 0, 1
_OWNERS_FOUND, _OWNERS_REFUSED = 6, 7  # places of `enum counter` (events.bpf.c), as those of the next table
_COUNTERS = {
    "ring_full": 0,
    "unreadable": 1,
    "getaddrinfo_unreadable": 2,
    "getaddrinfo_over_budget": 3,
    "ipv6_too_many_extensions": 4,
    "owners_refused": _OWNERS_REFUSED,
}
# Function -> program type and attach type, by their names in bcc.
_HOOKS = {
    "on_ingress": ("CGROUP_SKB", "CGROUP_INET_INGRESS"),
    "on_egress": ("CGROUP_SKB", "CGROUP_INET_EGRESS"),
    "on_create": ("CGROUP_SOCK", "CGROUP_INET_SOCK_CREATE"),
    "on_release": ("CGROUP_SOCK", "CGROUP_INET_SOCK_RELEASE"),
    "on_post_bind4": ("CGROUP_SOCK", "CGROUP_INET4_POST_BIND"),
    "on_post_bind6": ("CGROUP_SOCK", "CGROUP_INET6_POST_BIND"),
    "on_connect4": ("CGROUP_SOCK_ADDR", "CGROUP_INET4_CONNECT"),
    "on_connect6": ("CGROUP_SOCK_ADDR", "CGROUP_INET6_CONNECT"),
    "on_sendmsg4": ("CGROUP_SOCK_ADDR", "CGROUP_UDP4_SENDMSG"),
    "on_sendmsg6": ("CGROUP_SOCK_ADDR", "CGROUP_UDP6_SENDMSG"),
}
# Function -> true if it runs at the return. The return is attached first, so every call that is noted has its return.
_UPROBES = {"on_getaddrinfo_return": True, "on_getaddrinfo": False}
# The values that programs on packets can read (current task, network namespace), newest kernels first.
_ABILITIES = (
    {"SEES_CURRENT": 1, "SEES_NETNS": 1},
    {"SEES_CURRENT": 1, "SEES_NETNS": 0},
    {"SEES_CURRENT": 0, "SEES_NETNS": 0},
)


@dataclass(frozen=True)
class Sizes:
    """The sizes of the ring buffer, in pages (a power of two), and of the maps, in entries."""

    #: pages of the ring buffer of the kernel (eBPF) -> `ring_full`: an owner that added more than is free loses its own
    #: events
    ring_pages: int = 8192
    #: open sockets with a known process (eBPF) -> an owner that has as many as are free gets no more: `owners_refused`
    owners: int = 65536
    losing_cgroups: int = 4096
    cgroups: int = 65536
    shares: int = 4096
    relays: int = 4096


SIZES = Sizes()


class Programs:
    """The loaded and attached programs: their ring buffer, maps and counters. Nothing stays attached after `close`.

    `first_bytes`: capture the first bytes of connections. `getaddrinfo`: load the programs on getaddrinfo as well.

    Raises:
        SourceUnavailable: this host or user cannot load them; the error names the remedy.
    """

    def __init__(
        self,
        ports: frozenset[int],
        *,
        first_bytes: bool = False,
        getaddrinfo: bool = False,
        sizes: Sizes = SIZES,
    ) -> None:
        _check_capabilities()
        self._bcc = load_bcc()
        root = find_cgroup2()
        if root is None:
            raise SourceUnavailable("ebpf", "no cgroup2 hierarchy is mounted", CGROUP2)
        self.cgroup_root = root
        self._links: list[int] = []
        self._bpf: Any = None
        self._sizes = sizes
        self.most_owners = sizes.owners
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
        self.losses = LossMap(self._bcc.lib, self._bpf["losses"].map_fd, sizes.losing_cgroups)

    @property
    def counts(self) -> dict[str, int]:
        """What the programs counted, under the names of the counters of the source."""
        return {name: self._count(which) for name, which in _COUNTERS.items()}

    def program_fd(self, function: str) -> int:
        """Return the descriptor of a program; its fdinfo contains the number and the duration of its runs."""
        return int(self._bpf.funcs[function.encode()].fd)

    def refuse_owner(self) -> None:
        """Count a socket that finds no room in the map of owners."""
        self._count_one(_OWNERS_REFUSED)

    def add(self, table: str, key: bytes, value: bytes) -> None:
        """Add an entry to a map, unless a program has added it already."""
        added = self._bcc.lib.bpf_update_elem(self._bpf[table].map_fd, key, value, _BPF_NOEXIST) == 0
        if added and table == "owners":
            self._count_one(_OWNERS_FOUND)

    def note_owner_of_cgroup(self, cgroup: int, owner: int) -> None:
        """Note the owner of a cgroup, in whose share the events and sockets of the cgroup are counted."""
        key, value = records.pack_id(cgroup), records.pack_id(owner)
        self._bcc.lib.bpf_update_elem(self._bpf["cgroup_owners"].map_fd, key, value, _BPF_ANY)

    def watch_getaddrinfo(self, file: int, offset: int, pid: int = 0) -> tuple[int, ...]:
        """Watch the getaddrinfo of an open file, in one process or (0) in all; return descriptors that keep it watched.

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
        """Detach all programs. Further calls have no effect."""
        self._detach()
        if self._bpf is not None:
            self._bpf.cleanup()  # detaches the raw tracepoints, which bcc attached
            self._bpf = None

    def _count(self, which: int) -> int:
        return int(self._counters[ctypes.c_int(which)].value)

    def _count_one(self, which: int) -> None:
        self._counters[ctypes.c_int(which)] = ctypes.c_uint64(self._count(which) + 1)

    def _detach(self) -> None:
        for descriptor in self._links:
            os.close(descriptor)
        self._links.clear()

    def _load(self, ports: frozenset[int]) -> tuple[Any, bool, bool]:
        """Load and attach the programs with all that this kernel lets them read."""
        refused: SourceUnavailable | None = None
        for abilities in _ABILITIES:
            bpf, sees_processes = _compile(self._bcc, ports, abilities | self._wanted, self._extra, self._sizes)
            try:
                self._attach_hooks(bpf)
            except SourceUnavailable as error:
                refused = error
                self._detach()
                bpf.cleanup()
            else:
                return bpf, sees_processes, bool(abilities["SEES_NETNS"])
        raise refused or SourceUnavailable("ebpf", "there is nothing to load")

    def _load_uprobes(self) -> None:
        """Load the programs on getaddrinfo."""
        if not self.sees_processes:  # new processes bring new libraries
            raise SourceUnavailable(_GETADDRINFO, "the kernel reports no processes", BTF)
        for function in _UPROBES:
            try:
                self._bpf.load_func(function, self._bcc.BPFProgType.KPROBE, attach_type=UPROBE_MULTI)
            except Exception as error:
                raise SourceUnavailable(_GETADDRINFO, f"the kernel refused {function}", UPROBES) from error

    def _attach_hooks(self, bpf: Any) -> None:
        cgroup = os.open(self.cgroup_root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for function, (program, hook) in _HOOKS.items():
                self._attach(bpf, function, program, hook, cgroup)
        finally:
            os.close(cgroup)

    def _attach(self, bpf: Any, function: str, program: str, hook: str, cgroup: int) -> None:
        attach_type = getattr(self._bcc.BPFAttachType, hook)
        try:
            loaded = bpf.load_func(function, getattr(self._bcc.BPFProgType, program), attach_type=attach_type)
            self._links.append(link_cgroup(loaded.fd, cgroup, int(attach_type)))
        except Exception as error:
            raise SourceUnavailable("ebpf", f"the kernel refused {function}: {error}", HOOKS) from error


def _check_capabilities() -> None:
    """Refuse early: the errors of bcc do not name the capability."""
    missing = missing_capabilities(*NEEDED)
    if missing:
        raise SourceUnavailable("ebpf", f"needs {', '.join(missing)}", SUDO)


def _compile(
    bcc: ModuleType, ports: frozenset[int], abilities: dict[str, int], extra: tuple[str, ...], sizes: Sizes
) -> tuple[Any, bool]:
    """Compile the programs; with process events and results of connections if the kernel has BTF."""
    with suppress(Exception):  # bcc raises bare Exceptions; without BTF there are no offsets
        btf = Btf()
        offsets = process_offsets(btf) | socket_offsets(btf) | byte_offsets(btf)
        parts = ("events", "sockets", "dns", "process", "results")
        return compile_text(bcc, program_text(parts + extra, ports, abilities | offsets, sizes)), True
    try:
        return compile_text(bcc, program_text(("events", "sockets", "dns", *extra), ports, abilities, sizes)), False
    except Exception as error:
        raise SourceUnavailable(
            "ebpf",
            f"the programs do not load ({error})",
            f"{HOOKS}, and CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN",
        ) from error


def program_text(parts: Iterable[str], ports: Iterable[int], defines: Mapping[str, int], sizes: Sizes = SIZES) -> str:
    """Return the text of the parts, in their order, for these DNS ports."""
    named = {
        **defines,
        "RING_PAGES": sizes.ring_pages,
        "OWNERS": sizes.owners,
        "RING_BYTES": sizes.ring_pages * mmap.PAGESIZE,
        "LOSING_CGROUPS": sizes.losing_cgroups,
        "CGROUPS": sizes.cgroups,
        "SHARES": sizes.shares,
        "RELAYS": sizes.relays,
    }
    text = "".join(f"#define {name} {value}\n" for name, value in named.items())
    is_one = " || ".join(f"(port) == {port}" for port in sorted(ports))
    text += f"#define IS_DNS(port) ({is_one or 0})\n"
    return text + "".join(_write_out_tiers((_HERE / f"{part}.bpf.c").read_text()) for part in parts)


def _write_out_tiers(text: str) -> str:
    """Repeat the part between the TIER marks for each size."""
    before, _, rest = text.partition("// TIER\n")
    template, _, after = rest.partition("// END TIER\n")
    return before + "".join(template.replace("SIZE", str(size)) for size in _TIERS) + after
