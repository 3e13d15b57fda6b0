"""The measures beside which figures stand: dnspython's parse in the same run, and tracee's Go as a share of it.

The shares were measured on 2026-11-25 with Python 3.11, one core, the same messages: the time in which tracee parses a
message and adds it to its cache, divided by the time of dnspython's `from_wire` and of reading its records. Each was
between 0.08 and 0.13 as the machine was quiet or busy. The share of all messages was measured again on 2026-11-28, at
0.071 to 0.084. The heap of a root is from the first run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import dns.message
from figures import Figure

GO_WARM, GO_COLD, GO_ALL = 0.10, 0.12, 0.075  # of dnspython's time
GO_HEAP = {5_000: 1_900, 100_000: 1_987, 1_000_000: 1_993}  # bytes of a root, by the number of roots
_SAMPLE, _RUNS = 1200, 3


def parse_cost(payloads: Sequence[bytes]) -> float:
    """Return the CPU time of dnspython for one message, in microseconds, from a sample of the messages."""
    sample = payloads[:: max(1, len(payloads) // _SAMPLE)]
    return sorted(_once(sample) for _ in range(_RUNS))[_RUNS // 2]


def compared(title: str, cost: float, parse: float, go_share: float) -> Iterator[Figure]:
    """Yield a cost in microseconds, its share of dnspython's parse, and the speed as a multiple of Go's."""
    yield Figure(title, cost, "us")
    yield Figure(f"{title}, of dnspython's time", cost / parse)
    yield Figure(f"{title}, speed against Go", go_share * parse / cost, "times")


def parse(payload: bytes) -> list[tuple[str, int, int, str]]:
    """Parse a message with dnspython, and read its records."""
    message = dns.message.from_wire(payload)
    return [
        (rrset.name.to_text(), rrset.rdtype, rrset.ttl, rdata.to_text()) for rrset in message.answer for rdata in rrset
    ]


def _once(payloads: Sequence[bytes]) -> float:
    began = time.thread_time()
    for payload in payloads:
        parse(payload)
    return (time.thread_time() - began) / len(payloads) * 1e6
