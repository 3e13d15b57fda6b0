"""Which resolvers a process is configured to ask: the resolv.conf that it sees (resolv.conf(5))."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_PROC = Path("/proc")
_LARGEST = 65536  # bytes of a file that are read
_FRESH = 10_000_000_000  # ns for which a file is not read again
_LOOPBACK = frozenset({ip_address("127.0.0.1").packed, ip_address("::1").packed})  # where the file names none
MAX_REMEMBERED = 4096  # processes, and namespaces


class ResolvConf:
    """The configured resolvers of processes; of one that has ended, those of its network namespace, seen last."""

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._processes: OrderedDict[int, tuple[int, frozenset[bytes]]] = OrderedDict()
        self._namespaces: OrderedDict[int, frozenset[bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._processes) + len(self._namespaces)

    def look(self, namespace: int, pid: int, now: int) -> frozenset[bytes] | None:
        """The packed addresses that a process is configured to ask; None if that is not known.

        `namespace` is the cookie of its network namespace, `now` in ns. Best while the process waits for its answer.
        """
        read, configured = self._processes.get(pid, (0, None))
        if configured is None or now - read > _FRESH:
            configured = _read(self._proc / str(pid) / "root/etc/resolv.conf")
            if configured is not None:
                _keep(self._processes, pid, (now, configured))
                _keep(self._namespaces, namespace, configured)
        return configured or self._namespaces.get(namespace)


def _keep(table: OrderedDict[int, T], key: int, value: T) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > MAX_REMEMBERED:
        table.popitem(last=False)


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
