from __future__ import annotations

import pytest

from dnstrail.client import DnsDataSource
from dnstrail.errors import DataNotFound
from dnstrail.image import Bounds
from dnstrail.protocol.batches import Mark
from live.processes import PATIENCE
from live.workers import cache, probe, response, seen, short_folder
from scenarios.scenarios import CASES

HOSTILE = [
    case
    for case in CASES
    if case.id
    in {
        "tracee-B10",
        "tracee-B11",
        "tracee-B12c",
        "tracee-B13",
        "tracee-B13-60",
        "tracee-B54",
        "ladder-of-60-aliases",
        "self-mx-with-address",
        "pointer-bomb",
    }
]


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.id)
def test_hostile_answer_is_answered_and_the_next_good_one_is_related(case):
    """Answers that hang or blind other systems are looked up as designed, over the bus, and the cache continues."""
    with (
        short_folder() as folder,
        cache(folder, bounds=Bounds(grace=case.grace)) as address,
        probe(folder) as publishing,
    ):
        mark = publishing.turn(*(seen(payload, stamp) for stamp, payload in case.messages))
        dns = DnsDataSource(address, timeout=PATIENCE)
        try:
            for key, at, expected in case.lookups:
                if at is None:
                    assert lookup(dns, key, mark) == (
                        expected and {name: expected[name] for name in dns_fields(expected)}
                    )
            stamp = max(stamp for stamp, _ in case.messages)
            mark = publishing.turn(seen(response("good.test", "good.test 300 A 192.0.2.77"), stamp))
            assert lookup(dns, "192.0.2.77", mark)["dns_root"] == "good.test"
        finally:
            dns.close()


def dns_fields(expected: dict) -> list[str]:
    """Return the fields of a result that the data source returns."""
    return [name for name in ("ip_addresses", "dns_queries", "dns_root") if name in expected]


def lookup(dns: DnsDataSource, key: str, mark: Mark) -> dict | None:
    """Return the result of a lookup after a turn, or None."""
    try:
        return dns.get(key, after=[mark])
    except DataNotFound:
        return None
