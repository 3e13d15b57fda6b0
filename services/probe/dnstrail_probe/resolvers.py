"""Which resolvers the processes of a network namespace are configured to ask: their resolv.conf (resolv.conf(5))."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address
from pathlib import Path

_PROC = Path("/proc")
_LARGEST = 65536  # bytes of a file that are read
_FRESH = 10_000_000_000  # ns for which a file is not read again
_LOOPBACK = frozenset({ip_address("127.0.0.1").packed, ip_address("::1").packed})  # where the file names none
MAX_NAMESPACES = 4096


class Resolvers:
    """The configured resolvers by network namespace, each read where one of its processes sees the file."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._known: OrderedDict[int, tuple[int, frozenset[bytes] | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def is_foreign(self, server: bytes, namespace: int, pid: int, now: int) -> bool | None:
        """Whether a server (packed address) is none of those that a process is to ask; None if that is not known.

        `namespace` is the cookie of the process's network namespace, `now` in ns.
        """
        read, configured = self._known.get(namespace, (now - _FRESH - 1, None))
        if configured is None or now - read > _FRESH:
            configured = _read(self._proc / str(pid) / "root/etc/resolv.conf") or configured
            self._known[namespace] = now, configured
            self._known.move_to_end(namespace)
            if len(self._known) > MAX_NAMESPACES:
                self._known.popitem(last=False)
        return None if configured is None else server not in configured


def _read(path: Path) -> frozenset[bytes] | None:
    """The servers that a file names; None where it is not ours to read."""
    try:
        with path.open("rb") as file:
            return configured_in(file.read(_LARGEST).decode(errors="replace"))
    except OSError:
        return None


def configured_in(text: str) -> frozenset[bytes]:
    """The packed addresses that the text of a resolv.conf names; those of the host itself where it names none."""
    found: set[bytes] = set()
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word != "nameserver" or not rest:
            continue
        try:
            address = ip_address(rest[0].partition("%")[0])
        except ValueError:
            continue
        found.add((getattr(address, "ipv4_mapped", None) or address).packed)
    return frozenset(found) or _LOOPBACK
