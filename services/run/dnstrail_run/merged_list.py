"""A list that a further run extends: the lines that are there stay, and those that it did not use get a mark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import TypeVar

from dnstrail_run.allow_list import GROUP, INCLUDE, AllowList, ListedName, Network, parse_allow_list
from dnstrail_run.report import RunReport

_T = TypeVar("_T")
_MARK = re.compile(r"\s*# not used since \d{4}-\d\d-\d\d$")


def merged(text: str, allowed: AllowList, found: Iterable[str], report: RunReport, today: str) -> Iterator[str]:
    """Yield the lines of a list after a run.

    `allowed` are the entries of the list (`text`), included ones too, and `found` the lines that the run needs.
    Comments, resolvers, sockets, groups and included files get no mark.
    """
    used = _Used(report)
    for line in text.removesuffix("\n").split("\n") if text else ():
        bare = _MARK.sub("", line)
        if not used.lacks(bare):
            yield bare
        else:
            yield line if bare != line else f"{line}  # not used since {today}"
    for line in found:
        if (not text) if line.startswith("#") else (not _covers(allowed, line)):
            yield line


class _Used:
    """The names and addresses of a run. `ends` are the ends of the names below which there was one."""

    def __init__(self, report: RunReport) -> None:
        self.names = {one.name for one in report.names} | {one.name for one in report.connections}
        addresses = [one.address for one in report.connections] + [one.address for one in report.foreign_dns]
        self.addresses = set(map(ip_address, addresses))
        labels = [name.split(".") for name in self.names]
        self.ends = {".".join(some[first:]) for some in labels for first in range(1, len(some))}

    def lacks(self, line: str) -> bool:
        """Return whether a line has an entry for names or addresses that the run did not need."""
        entry = line.partition("#")[0].strip()
        if not entry or entry.startswith((GROUP, INCLUDE)):
            return False
        one = parse_allow_list(entry)
        if not (one.names or one.suffixes or one.networks):
            return False
        by_name = self.names & one.names.keys() or self.ends & one.suffixes.keys()
        return not by_name and not any(address in network for network, _ in one.networks for address in self.addresses)


def _covers(allowed: AllowList, line: str) -> bool:
    """Return whether a list has all that a learned line needs."""
    needed = parse_allow_list(line)
    if needed.resolvers.keys() - allowed.resolvers.keys():
        return False
    for names, below in ((needed.names, ""), (needed.suffixes, "*.")):
        for name, entries in names.items():
            there = [*allowed.entries_of(f"{below}{name}")]
            if not there or not all(_has_entry(entry, there) for entry in entries):
                return False
    return all(
        any(_is_in(network, other) and _has_all(ports, [others]) for other, others in allowed.networks)
        for network, ports in needed.networks
    )


def _has_entry(needed: ListedName, there: list[ListedName]) -> bool:
    """Return whether the entries of a name together have all that one line needs."""
    if needed.ports and not _has_all(needed.ports, [entry.ports for entry in there]):
        return False
    if needed.types - frozenset[int]().union(*(entry.types for entry in there)):
        return False
    return _has_all(needed.resolvers, [entry.resolvers for entry in there])


def _is_in(network: Network, other: Network) -> bool:
    if network.version != other.version or network.prefixlen < other.prefixlen:
        return False
    return network.supernet(new_prefix=other.prefixlen) == other


def _has_all(needed: frozenset[_T], there: Iterable[frozenset[_T]]) -> bool:
    """Return whether sets together have all values of another one; an empty set stands for all values."""
    sets = [*there]
    if any(not one for one in sets):
        return True
    return bool(needed) and needed <= frozenset[_T]().union(*sets)
