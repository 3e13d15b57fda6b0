"""The selection of entries: all that is given has to fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import msgspec

from dnstrail.captured import LAST_TIME
from dnstrail.container import fits_container
from dnstrail.dns.names import address_text, name_text
from dnstrail.history.log.entries import LogEntry, LoggedConnection, LoggedQuestion
from dnstrail.kernel.systemd_units import fits_unit
from dnstrail.process.clock import nanoseconds
from dnstrail.protocol.facts import is_for_another

Network = IPv4Network | IPv6Network
_WILDCARD = re.compile(r"[*?\[]")
_MICROSECOND = 1_000  # ns
_MAPPED = IPv6Network("::ffff:0.0.0.0/96")


def network_of(text: str) -> Network:
    """Return a network, or the one of an address in any spelling; that of IPv4-mapped addresses is one of IPv4.

    Raises:
        ValueError: it is neither.
    """
    found = ip_network(address_text(text) or text, strict=False)
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        return IPv4Network((found.network_address.packed[-4:], found.prefixlen - _MAPPED.prefixlen))
    return found


def first_time(since: float | None) -> int | None:
    """Return the time (ns) at which a begin begins, in seconds since the epoch: that of its microsecond."""
    return None if since is None else _possible(nanoseconds(since) // _MICROSECOND * _MICROSECOND)


def last_time(until: float | None) -> int | None:
    """Return the time (ns) at which an end ends, in seconds since the epoch: that of its microsecond."""
    return None if until is None else _possible(nanoseconds(until))


def _possible(time: int) -> int:
    """Return a time (ns), or the nearest that an entry can have."""
    return min(max(time, 0), LAST_TIME)


class LogSelection(msgspec.Struct, frozen=True):
    """Which entries are shown. Times are in ns since the epoch; patterns are those of a shell.

    `container` is a prefix of an id, or a pattern for a name, image or label. `unit` is a pattern for a unit or slice.
    A unit or container of a user fits only a pattern with the user. `slower` is the least time (ns) between question
    and end. `network` contains an address of the answer, or the receiver of a connection.
    """

    since: int | None = None
    until: int | None = None
    name: str | None = None
    process: str | None = None
    container: str | None = None
    outcomes: tuple[str, ...] = ()
    slower: int | None = None
    network: Network | None = None
    unit: str | None = None

    @property
    def accepts_question(self) -> Callable[[LoggedQuestion], bool]:
        """Whether a question fits; one that was asked for others does not."""
        return _is_of_client if self == EVERYTHING else self._fits_question

    def accepts(self, entry: LogEntry) -> bool:
        """Return whether a question fits, or the last stage of a connection."""
        if isinstance(entry, LoggedQuestion):
            return self._fits_question(entry)
        if not isinstance(entry, LoggedConnection) or not entry.is_last:
            return False
        is_named = self.name is None or self.fits_name(entry.name or "")
        return is_named and self.fits_address(entry.dst) and self._fits(entry)

    @property
    def pattern(self) -> str:
        """The pattern for names in the form in which names are stored; "*" if none is given."""
        return "*" if self.name is None else _pattern_of(self.name)

    def fits_name(self, name: str) -> bool:
        """Return whether a name fits."""
        return self.name is None or fnmatchcase(name, self.pattern)

    def fits_process(self, pid: int, name: str) -> bool:
        """Return whether a process fits; 0 is none."""
        return self.process is None or (pid != 0 and (self.process == str(pid) or self.fits_program(name)))

    def fits_program(self, name: str) -> bool:
        """Return whether every process of this name fits."""
        return self.process is None or fnmatchcase(name, self.process)

    def fits_container(self, identity: str, name: str, image: str, labels: Mapping[str, str]) -> bool:
        """Return whether a process of this container fits; "" is none."""
        return self.container is None or fits_container(identity, name, image, self.container, tuple(labels.items()))

    def fits_unit(self, unit: str, slice_: str) -> bool:
        """Return whether a process of this unit and slice fits; "" is none."""
        return self.unit is None or fits_unit(unit, slice_, self.unit)

    def fits_address(self, text: str | None) -> bool:
        """Return whether a text is an address of the network."""
        if self.network is None:
            return True
        if isinstance(self.network, IPv4Network) and self.network.num_addresses == 1:
            return text == str(self.network.network_address)
        return text is not None and address_text(text) == text and ip_address(text) in self.network

    def _fits(self, entry: LogEntry) -> bool:
        return (
            (self.since is None or entry.timestamp >= self.since)
            and (self.until is None or entry.timestamp <= self.until)
            and self.fits_process(entry.process_id, entry.process_name)
            and self.fits_container(
                entry.container_id, entry.container_name, entry.container_image, entry.container_labels
            )
            and self.fits_unit(entry.unit, entry.slice)
        )

    def _fits_question(self, entry: LoggedQuestion) -> bool:
        return (
            _is_of_client(entry)
            and self.fits_name(entry.name)
            and (not self.outcomes or entry.outcome in self.outcomes)
            and (self.slower is None or (entry.waited is not None and entry.waited >= self.slower))
            and (self.network is None or any(self.fits_address(relation[2]) for relation in entry.relations))
            and self._fits(entry)
        )


@lru_cache(maxsize=1)
def _pattern_of(name: str) -> str:
    if not (_WILDCARD.search(name) and name.isascii()) and (stored := name_text(name.strip())):
        return stored
    return name.lower().removesuffix(".") or name


def _is_of_client(entry: LoggedQuestion) -> bool:
    """Return whether no other question is shown in place of this one."""
    return not is_for_another(entry.hop, entry.asked_for)


EVERYTHING = LogSelection()
