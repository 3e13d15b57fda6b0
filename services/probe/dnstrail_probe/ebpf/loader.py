"""Assembles the programs, loads and attaches them. The kernel detaches them when this process ends."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dnstrail.errors import SourceUnavailable
from dnstrail.kept_objects import load_kept
from dnstrail.kernel.bpf import NOEXIST, AttachType, ProgramType, link_cgroup, link_uprobe, look_up, read_batch, update
from dnstrail.kernel.capabilities import missing_capabilities
from dnstrail.kernel.cgroups import find_cgroup2
from dnstrail.kernel.objects import BpfObject, LoadedObject
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
_RIGHTS = f"{HOOKS}, and CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
NEEDED = ("CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF")
_GETADDRINFO = "ebpf:getaddrinfo"  # as --capture names it
_COUNTER = struct.Struct("=Q")
_PLACES = 8  # COUNTERS of `enum counter`
_OWNERS_FOUND, _OWNERS_REFUSED = 6, 7  # places of `enum counter` (events.bpf.c), as those of the next table
_COUNTERS = {
    "ring_full": 0,
    "unreadable": 1,
    "getaddrinfo_unreadable": 2,
    "getaddrinfo_over_budget": 3,
    "ipv6_too_many_extensions": 4,
    "owners_refused": _OWNERS_REFUSED,
}
# Function -> program type and attach type.
_HOOKS = {
    "on_ingress": (ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_INGRESS),
    "on_egress": (ProgramType.CGROUP_SKB, AttachType.CGROUP_INET_EGRESS),
    "on_create": (ProgramType.CGROUP_SOCK, AttachType.CGROUP_INET_SOCK_CREATE),
    "on_release": (ProgramType.CGROUP_SOCK, AttachType.CGROUP_INET_SOCK_RELEASE),
    "on_post_bind4": (ProgramType.CGROUP_SOCK, AttachType.CGROUP_INET4_POST_BIND),
    "on_post_bind6": (ProgramType.CGROUP_SOCK, AttachType.CGROUP_INET6_POST_BIND),
    "on_connect4": (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET4_CONNECT),
    "on_connect6": (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_INET6_CONNECT),
    "on_sendmsg4": (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP4_SENDMSG),
    "on_sendmsg6": (ProgramType.CGROUP_SOCK_ADDR, AttachType.CGROUP_UDP6_SENDMSG),
}
# Raw tracepoints; the name of the function begins with "on_". Without BTF there are no such functions.
_TRACEPOINTS = (
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
    "cgroup_mkdir",
    "cgroup_rmdir",
    "inet_sock_set_state",
)
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
        root = find_cgroup2()
        if root is None:
            raise SourceUnavailable("ebpf", "no cgroup2 hierarchy is mounted", CGROUP2)
        self.cgroup_root = root
        self._sizes = sizes
        self.most_owners = sizes.owners
        self._wanted = {"FIRST_BYTES": int(first_bytes)}
        self._extra = ("getaddrinfo",) if getaddrinfo else ()
        self._loaded, self.sees_processes, self.sees_namespaces = self._load(ports)
        try:
            if getaddrinfo:
                self._load_uprobes()
        except BaseException:
            self.close()
            raise
        maps = self._loaded.maps
        self.ring_fd = maps["events"]
        self.cgroups_made_fd = maps["cgroups_made"]
        self._counters = maps["counters"]
        self.losses = LossMap(maps["losses"], sizes.losing_cgroups)

    @property
    def counts(self) -> dict[str, int]:
        """What the programs counted, under the names of the counters of the source."""
        keys, values = (ctypes.c_uint32 * _PLACES)(), (ctypes.c_uint64 * _PLACES)()
        read_batch(self._counters, keys, values, take=False)
        return {name: values[which] for name, which in _COUNTERS.items()}

    def program_fd(self, function: str) -> int:
        """Return the descriptor of a program; its fdinfo contains the number and the duration of its runs."""
        return self._loaded.programs[function]

    def refuse_owner(self) -> None:
        """Count a socket that finds no room in the map of owners."""
        self._count_one(_OWNERS_REFUSED)

    def add(self, table: str, key: bytes, value: bytes) -> None:
        """Add an entry to a map, unless a program has added it already."""
        with suppress(OSError):  # it is there, or the map is full
            update(self._loaded.maps[table], key, value, NOEXIST)
            if table == "owners":
                self._count_one(_OWNERS_FOUND)

    def note_owner_of_cgroup(self, cgroup: int, owner: int) -> None:
        """Note the owner of a cgroup, in whose share the events and sockets of the cgroup are counted."""
        with suppress(OSError):  # without an entry, its share is that of unknown cgroups
            update(self._loaded.maps["cgroup_owners"], records.pack_id(cgroup), records.pack_id(owner))

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
        self._loaded.close()

    def _count(self, which: int) -> int:
        (count,) = _COUNTER.unpack(look_up(self._counters, _key(which), _COUNTER.size))
        return int(count)

    def _count_one(self, which: int) -> None:
        update(self._counters, _key(which), _COUNTER.pack(self._count(which) + 1))

    def _load(self, ports: frozenset[int]) -> tuple[LoadedObject, bool, bool]:
        """Load and attach the programs with all that this kernel lets them read."""
        refused: SourceUnavailable | None = None
        for abilities in _ABILITIES:
            loaded, sees_processes = _open(ports, abilities | self._wanted, self._extra, self._sizes)
            try:
                self._attach_hooks(loaded)
            except BaseException as error:
                loaded.close()
                if not isinstance(error, SourceUnavailable):
                    raise
                refused = error
            else:
                return loaded, sees_processes, bool(abilities["SEES_NETNS"])
        raise refused or SourceUnavailable("ebpf", "there is nothing to load")

    def _load_uprobes(self) -> None:
        """Load the programs on getaddrinfo."""
        if not self.sees_processes:  # new processes bring new libraries
            raise SourceUnavailable(_GETADDRINFO, "the kernel reports no processes", BTF)
        for function in _UPROBES:
            try:
                self._loaded.load(function, ProgramType.KPROBE, AttachType.TRACE_UPROBE_MULTI)
            except OSError as error:
                raise SourceUnavailable(_GETADDRINFO, f"the kernel refused {function}", UPROBES) from error

    def _attach_hooks(self, loaded: LoadedObject) -> None:
        cgroup = os.open(self.cgroup_root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for function, (program, hook) in _HOOKS.items():
                loaded.links.append(link_cgroup(loaded.load(function, program, hook), cgroup, hook))
        except OSError as error:
            raise SourceUnavailable("ebpf", f"the kernel refused {function}: {error}", HOOKS) from error
        finally:
            os.close(cgroup)


def _check_capabilities() -> None:
    """Refuse early: the errors of bcc do not name the capability."""
    missing = missing_capabilities(*NEEDED)
    if missing:
        raise SourceUnavailable("ebpf", f"needs {', '.join(missing)}", SUDO)


def _open(
    ports: frozenset[int], abilities: dict[str, int], extra: tuple[str, ...], sizes: Sizes
) -> tuple[LoadedObject, bool]:
    """Load the programs; with process events and results of connections if the kernel has BTF."""
    parts = ("events", "sockets", "dns")
    with suppress(OSError, ValueError, KeyError, SourceUnavailable):  # without BTF there are no offsets
        text = program_text((*parts, "process", "results", *extra), ports, abilities, sizes)
        return load_kept(text, _offsets, _load_object), True
    text = program_text((*parts, *extra), ports, abilities, sizes)
    try:
        return load_kept(text, None, _load_object), False
    except SourceUnavailable as error:
        raise SourceUnavailable("ebpf", error.reason, error.remedy or _RIGHTS) from error
    except OSError as error:
        raise SourceUnavailable("ebpf", f"the programs do not load ({error})", _RIGHTS) from error


def _load_object(compiled: BpfObject) -> LoadedObject:
    """Make the maps, and attach the programs on raw tracepoints."""
    loaded = LoadedObject(compiled)
    try:
        for tracepoint in _TRACEPOINTS:
            if f"on_{tracepoint}" in compiled.programs:
                loaded.attach_raw_tracepoint(f"on_{tracepoint}", tracepoint)
    except BaseException:
        loaded.close()
        raise
    return loaded


def _offsets() -> str:
    """Return the definitions of the offsets in structs of this kernel.

    Raises:
        OSError: the kernel has no BTF.
        ValueError: the file contains no BTF.
        KeyError: a struct or a member is unknown.
    """
    btf = Btf()
    return _definitions(process_offsets(btf) | socket_offsets(btf) | byte_offsets(btf))


def _definitions(defines: Mapping[str, int]) -> str:
    return "".join(f"#define {name} {value}\n" for name, value in defines.items())


def _key(which: int) -> bytes:
    return which.to_bytes(4, "little")


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
    text = _definitions(named)
    is_one = " || ".join(f"(port) == {port}" for port in sorted(ports))
    text += f"#define IS_DNS(port) ({is_one or 0})\n"
    return text + "".join(_write_out_tiers((_HERE / f"{part}.bpf.c").read_text()) for part in parts)


def _write_out_tiers(text: str) -> str:
    """Repeat the part between the TIER marks for each size."""
    before, _, rest = text.partition("// TIER\n")
    template, _, after = rest.partition("// END TIER\n")
    return before + "".join(template.replace("SIZE", str(size)) for size in _TIERS) + after
