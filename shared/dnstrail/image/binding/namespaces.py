"""The network namespaces of connections: the daemons that ask for their programs, and whether IPv6 works in them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from dnstrail.captured import Process
from dnstrail.image.binding.processes import Identity
from dnstrail.image.counts import Counts

DAEMONS: Final = ("nscd", "systemd-resolve")  # the C library asks them over a socket of their own (nsswitch.conf)
#: network namespaces with a daemon that asks for others, or with IPv6 -> the one noted longest ago is forgotten:
#: `evicted_namespaces`
MAX_NAMESPACES: Final = 4096


class KnownNamespace:
    """One network namespace: the last daemon of each name, and whether a connection over IPv6 has succeeded."""

    __slots__ = ("daemons", "uses_ipv6")

    def __init__(self) -> None:
        self.daemons: dict[str, Identity] = {}
        self.uses_ipv6 = False


_UNKNOWN: Final = KnownNamespace()


class Namespaces:
    """The namespaces with a daemon or with IPv6, by host and number. Evictions are counted as `evicted_namespaces`."""

    def __init__(self, counters: Counts) -> None:
        self.counters = counters
        self._of: OrderedDict[tuple[str, int], KnownNamespace] = OrderedDict()

    def __len__(self) -> int:
        return len(self._of)

    def of(self, host: str, number: int) -> KnownNamespace:
        """Return a namespace, or one without daemons and IPv6."""
        return self._of.get((host, number), _UNKNOWN)

    def asked(self, host: str, number: int, process: Process) -> None:
        """Note that a daemon asks in a namespace: it is the last one of its name there."""
        self._noted(host, number).daemons[process.name] = (host, process.pid, process.start_time)

    def connected(self, host: str, number: int, address: str) -> None:
        """Note that a connection to an address succeeded."""
        if ":" in address:
            self._noted(host, number).uses_ipv6 = True

    def _noted(self, host: str, number: int) -> KnownNamespace:
        key = host, number
        found = self._of.get(key)
        if found is None:
            found = self._of[key] = KnownNamespace()
            if len(self._of) > MAX_NAMESPACES:
                self._of.popitem(last=False)
                self.counters["evicted_namespaces"] += 1
        else:
            self._of.move_to_end(key)
        return found
