"""The resolvers that a process is configured to use: the resolv.conf that it sees (resolv.conf(5))."""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_PROC = Path("/proc")
_LARGEST = 65536  # bytes of a file that are read
_FRESH = 10_000_000_000  # ns after which a file is read again
_LOOPBACK = frozenset({ip_address("127.0.0.1").packed, ip_address("::1").packed})  # the default
MAX_REMEMBERED = 4096  # processes, and namespaces


class ResolvConf:
    """The configured resolvers of processes. Times come with the calls; the tables are bounded.

    The file of a process that has ended cannot be read: the last file seen in its network namespace counts instead.
    """

    def __init__(self, proc: Path = _PROC) -> None:
        self._proc = proc
        self._processes: OrderedDict[int, tuple[int, frozenset[bytes]]] = OrderedDict()
        self._namespaces: OrderedDict[int, frozenset[bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._processes) + len(self._namespaces)

    def look(self, namespace: int, pid: int, now: int) -> frozenset[bytes] | None:
        """Return the packed addresses of a process's resolvers; None if they are unknown.

        `namespace` is the cookie of its network namespace, `now` is in ns. Call it while the process waits for its
        answer: then the file can be read.
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
    """Return the servers that a file names; None if it may not be read."""
    try:
        with path.open("rb") as file:
            return configured_in(file.read(_LARGEST).decode(errors="replace"))
    except OSError:
        return None


def configured_in(text: str) -> frozenset[bytes]:
    """Return the packed addresses that the text of a resolv.conf names; the loopback addresses if it names none."""
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
