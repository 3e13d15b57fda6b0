"""Words that several formats have for an entry."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

import dns.rcode

from dnstrail.dns.names import address_text
from dnstrail.history.log.entries import LogEntry, LoggedQuestion
from dnstrail_probe.packets.connection_args import community_id

_RCODES = 64  # whose names are remembered


def community_id_of(entry: LogEntry) -> str | None:
    """Return the Community ID of the flow (version 1, seed 0); None if an end is unknown."""
    if not (entry.src and entry.src_port and entry.dst and entry.dst_port and entry.transport):
        return None
    source, destination = ip_address(entry.src).packed, ip_address(entry.dst).packed
    return community_id(entry.transport, source, entry.src_port, destination, entry.dst_port)


@lru_cache(_RCODES)
def rcode_text(rcode: int) -> str:
    """Return the mnemonic of a response code."""
    try:
        return dns.rcode.to_text(dns.rcode.Rcode.make(rcode))
    except ValueError:
        return f"RCODE{rcode}"


def targets(question: LoggedQuestion) -> tuple[list[str], list[str]]:
    """Return the addresses and the names of an answer, each once."""
    found = dict.fromkeys(target for _, _, target, _ in question.relations)
    addresses = {target: None for target in found if address_text(target) == target}
    return [*addresses], [target for target in found if target not in addresses]


def unit_of(entry: LogEntry) -> dict[str, str]:
    """Return the systemd unit and slice of the process, "" if there is none."""
    return {"unit": entry.unit, "slice": entry.slice}
