"""Loads the programs with the system's bcc and attaches them by links, which the kernel takes off when we end."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import struct
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from dnstrail.capabilities import missing_capabilities
from dnstrail.errors import SourceUnavailable
from dnstrail_probe.ebpf.btf import Btf, process_offsets
from dnstrail_probe.ebpf.headers import write_headers

RING_PAGES = 4096  # 16 MiB
_HERE = Path(__file__).parent
_BCC = Path("/usr/lib/python3/dist-packages/bcc/__init__.py")
_INSTALL = "apt-get install python3-bpfcc"
_TIERS = (128, 512, 4096, 65536)
_CGROUP2_MAGIC = 0x63677270
_CGROUP2 = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/host/cgroup", "/host/cgroup/unified")
_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_BPF_LINK_CREATE = 28
_TRACEFS = Path("/sys/kernel/tracing")
# Function -> program type and attach type, by their names in bcc.
_HOOKS = {
    "on_create": ("CGROUP_SOCK", "CGROUP_INET_SOCK_CREATE"),
    "on_connect4": ("CGROUP_SOCK_ADDR", "CGROUP_INET4_CONNECT"),
    "on_connect6": ("CGROUP_SOCK_ADDR", "CGROUP_INET6_CONNECT"),
    "on_sendmsg4": ("CGROUP_SOCK_ADDR", "CGROUP_UDP4_SENDMSG"),
    "on_sendmsg6": ("CGROUP_SOCK_ADDR", "CGROUP_UDP6_SENDMSG"),
    "on_ingress": ("CGROUP_SKB", "CGROUP_INET_INGRESS"),
    "on_egress": ("CGROUP_SKB", "CGROUP_INET_EGRESS"),
}


class Programs:
    """The loaded programs: their ring buffer and counters.

    Raises:
        SourceUnavailable: something is missing; the text says what, and what to do.
    """

    def __init__(self, ports: frozenset[int]) -> None:
        _check_capabilities()
        bcc = load_bcc()
        _mount_tracefs()
        self._cgroup = os.open(find_cgroup2(), os.O_RDONLY | os.O_CLOEXEC)
        self._links: list[int] = []
        try:
            self._bpf, self.sees_processes = _compile(bcc)
            for port in ports:
                self._bpf["ports"][ctypes.c_uint16(port)] = ctypes.c_uint8(1)
            for function, (program, hook) in _HOOKS.items():
                self._attach(bcc, function, program, hook)
        except BaseException:
            self.close()
            raise
        self.ring_fd: int = self._bpf["events"].map_fd
        self._counters = self._bpf["counters"]

    @property
    def lost(self) -> int:
        """Events for which the ring buffer had no room."""
        return int(self._counters[ctypes.c_int(0)].value)

    @property
    def unreadable(self) -> int:
        """Packets whose bytes could not be read."""
        return int(self._counters[ctypes.c_int(1)].value)

    def close(self) -> None:
        """Detach everything."""
        for link in self._links:
            os.close(link)
        self._links.clear()
        os.close(self._cgroup)

    def _attach(self, bcc: ModuleType, function: str, program: str, hook: str) -> None:
        attach_type = getattr(bcc.BPFAttachType, hook)
        try:
            loaded = self._bpf.load_func(function, getattr(bcc.BPFProgType, program), attach_type=attach_type)
            self._links.append(_link(loaded.fd, self._cgroup, int(attach_type)))
        except (OSError, Exception) as error:
            raise SourceUnavailable("ebpf", f"the kernel refused {function}: {error}") from error


def _check_capabilities() -> None:
    """Refuse early and clearly: bcc would write about it in its own words."""
    missing = missing_capabilities("CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF")
    if missing:
        raise SourceUnavailable("ebpf", f"needs {', '.join(missing)}: run it with sudo")


def _mount_tracefs() -> None:
    """Mount tracefs where the host has not, as perf does; without it there are no process events."""
    if not (_TRACEFS / "events").exists():
        ctypes.CDLL(None).mount(b"tracefs", bytes(_TRACEFS), b"tracefs", 0, None)


def load_bcc() -> ModuleType:
    """Debian's bcc alone, from whichever environment, without the rest of the system's packages."""
    if not _BCC.exists():
        raise SourceUnavailable("ebpf", f"bcc is not installed: {_INSTALL}")
    spec = importlib.util.spec_from_file_location("bcc", _BCC, submodule_search_locations=[str(_BCC.parent)])
    if spec is None or spec.loader is None:
        raise SourceUnavailable("ebpf", f"bcc cannot be loaded: {_INSTALL}")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = module
    try:
        spec.loader.exec_module(module)
    except (ImportError, OSError, SyntaxError) as error:
        raise SourceUnavailable("ebpf", f"bcc does not load ({error}): {_INSTALL}") from error
    return module


def find_cgroup2() -> str:
    """The root of the cgroup2 hierarchy."""
    for path in _CGROUP2:
        if _filesystem(path) == _CGROUP2_MAGIC:
            return path
    raise SourceUnavailable("ebpf", "no cgroup2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup/unified")


def _filesystem(path: str) -> int:
    buffer = ctypes.create_string_buffer(256)  # struct statfs begins with the type, a long
    if ctypes.CDLL(None).statfs(path.encode(), buffer) != 0:
        return 0
    return int(struct.unpack_from("@l", buffer)[0])


def _compile(bcc: ModuleType) -> tuple[Any, bool]:
    """The programs, with process events if the kernel lets us have them."""
    try:
        offsets = process_offsets(Btf())
        return _build(bcc, ["events", "dns", "process"], offsets), True
    except (OSError, ValueError, KeyError):
        return _build_or_say(bcc), False
    except Exception:  # noqa: BLE001 - bcc raises bare Exceptions: tracefs is not ours to read, for one
        return _build_or_say(bcc), False


def _build_or_say(bcc: ModuleType) -> Any:
    try:
        return _build(bcc, ["events", "dns"], {})
    except Exception as error:
        raise SourceUnavailable(
            "ebpf",
            f"the programs do not load ({error}); needed are a kernel from 5.10 on and "
            "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN: run it with sudo",
        ) from error


def _build(bcc: ModuleType, parts: list[str], defines: dict[str, int]) -> Any:
    text = "".join(f"#define {name} {value}\n" for name, value in {**defines, "RING_PAGES": RING_PAGES}.items())
    text += "#define CURRENT 1\n"
    for part in parts:
        text += (_HERE / f"{part}.bpf.c").read_text()
    text = _write_out_tiers(text)
    with tempfile.TemporaryDirectory(prefix="dnstrail-headers-") as folder:
        write_headers(Path(folder))
        os.environ["BCC_KERNEL_SOURCE"] = folder
        try:
            return bcc.BPF(text=text, cflags=["-w"])
        finally:
            del os.environ["BCC_KERNEL_SOURCE"]


def _write_out_tiers(text: str) -> str:
    """The part between the TIER marks once for each size."""
    before, _, rest = text.partition("// TIER\n")
    template, _, after = rest.partition("// END TIER\n")
    return before + "".join(template.replace("SIZE", str(size)) for size in _TIERS) + after


def _link(program: int, cgroup: int, attach_type: int) -> int:
    """BPF_LINK_CREATE, bpf(2): unlike BPF_PROG_ATTACH it ends with this process, even a killed one."""
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        raise OSError(f"unknown machine {platform.machine()}")
    attributes = struct.pack("IIII", program, cgroup, attach_type, 0) + bytes(48)
    libc = ctypes.CDLL(None, use_errno=True)
    link = int(libc.syscall(number, _BPF_LINK_CREATE, ctypes.c_char_p(attributes), len(attributes)))
    if link < 0:
        raise OSError(ctypes.get_errno(), f"BPF_LINK_CREATE: {os.strerror(ctypes.get_errno())}")
    return link
