"""What would allow a refusal: the line of a list, and the entry that comes nearest to it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from dnstrail.tracee.codes import TYPES
from dnstrail_run.allow_list import DNS, ENTRY_TYPES, NAME, RESOLVER, UNCHECKED, USUAL_TYPES, AllowList, Ports, entry_of
from dnstrail_run.enforce.refusals import ASK, OTHER, REACH, STATE, UNREADABLE
from dnstrail_run.enforce.refusals import NAME as NAME_UNLISTED
from dnstrail_run.enforce.refusals import TYPE as TYPE_UNLISTED
from dnstrail_run.report import Refusal
from dnstrail_run.verdict import bracketed

_USUAL = frozenset(TYPES[number] for number in USUAL_TYPES)
_SHARED = 2  # labels that two names share at least: a top-level domain alone means nothing


def allowing_line(refused: Refusal) -> str:
    """Return the line of a list that would allow an attempt, "" if none does."""
    if refused.action == ASK:
        if refused.reason == UNREADABLE or not NAME.fullmatch(refused.name):
            return ""
        conditions = {NAME_UNLISTED: [], TYPE_UNLISTED: [refused.type]}
        return entry_of(refused.name, words=conditions.get(refused.reason, [f"{RESOLVER} {refused.address}"]))
    if refused.action == STATE and NAME.fullmatch(refused.name):
        return f"{refused.name}:{refused.port}" + ("" if refused.reason == OTHER else f" {UNCHECKED}")
    if refused.action != REACH and (refused.action != STATE or refused.name):
        return ""
    if refused.port == DNS:
        return f"{RESOLVER} {refused.address}"
    return bracketed(refused.address) + (f":{refused.port}" if refused.port else "")  # no entry names port 0


def asked_line(refused: Refusal, allowed: AllowList) -> str:
    """Return the line that would allow a question and no other port or server, "" if no list can contain it.

    A name keeps the ports and resolvers of its entries.
    """
    if not NAME.fullmatch(refused.name) or refused.type not in ENTRY_TYPES | _USUAL:
        return ""
    entries = [*allowed.entries_of(refused.name)]
    ports = _ports_text(entry.ports for entry in entries) if entries else ""
    types = [refused.type] if refused.type in ENTRY_TYPES else []
    all_narrow = all(entry.resolvers for entry in entries)
    resolvers = sorted({str(ip_address(one)) for entry in entries for one in entry.resolvers}) if all_narrow else []
    return entry_of(refused.name, ports, [*types, *(f"{RESOLVER} {address}" for address in resolvers)])


class NearestEntries:
    """The entries of a list by the ends of their names, so that a flood of refusals is looked up quickly."""

    def __init__(self, allowed: AllowList) -> None:
        self._networks = allowed.networks
        self._by_end: dict[str, str] = {}
        self._exact: dict[str, str] = {}
        for names, below in ((allowed.names, ""), (allowed.suffixes, "*.")):
            for name, entries in names.items():
                text = below + name + _ports_text(entry.ports for entry in entries)
                self._exact.setdefault(name, text)
                for end in _ends(name):
                    self._by_end.setdefault(end, text)

    def of(self, refused: Refusal) -> str:
        """Return the entry that shares most with a refusal: the last labels of its name, or its address."""
        if refused.name:
            ends = [refused.name, *_ends(refused.name)]
            return next((text for end in ends if (text := self._exact.get(end) or self._by_end.get(end))), "")
        if not refused.address:
            return ""
        address = ip_address(refused.address)
        around = [one for one in self._networks if address in one[0]]
        if not around:
            return ""
        network, ports = max(around, key=lambda one: one[0].prefixlen)
        whole = network.prefixlen == network.max_prefixlen
        text = str(network.network_address) if whole else str(network)
        return (f"[{text}]" if ":" in text else text) + _ports_text([ports])


def _ends(name: str) -> Iterable[str]:
    """Yield the ends of a name from the longest on, each with two labels at least."""
    labels = name.split(".")
    return (".".join(labels[first:]) for first in range(len(labels) - _SHARED + 1))


def _ports_text(sets: Iterable[Ports]) -> str:
    some = [*sets]
    if not all(some):
        return ""
    return ":" + ",".join(map(str, sorted(set().union(*some))))
