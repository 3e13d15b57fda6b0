"""Records in the Passive DNS Common Output Format (draft-dulaunoy-dnsop-passive-dns-cof)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dns.reversename

from dnstrail.dns.names import address_text
from dnstrail.image import Kind

_SECOND = 1_000_000_000  # ns


def cof_lines(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a line for each relation of a record of a dump. The times are those of the answers that are held."""
    answers, total = record["answers"], record["total"]
    first = min([one["stamp"] for one in answers] + ([total["first"]] if total else []))
    last = max([one["stamp"] for one in answers] + ([total["stamp"]] if total else []))
    count = len(answers) + (total["count"] if total else 0)
    for owner, kind, target in record["edges"]:
        yield {
            "rrname": _rrname(owner),
            "rrtype": Kind(kind).name,
            "rdata": target,
            "time_first": first // _SECOND,
            "time_last": last // _SECOND,
            "count": count,
        }


def _rrname(owner: str) -> str:
    """Return an owner; an address is the owner of a reverse record under its reverse name."""
    if address_text(owner) is None:
        return owner
    return dns.reversename.from_address(owner).to_text(omit_final_dot=True)
