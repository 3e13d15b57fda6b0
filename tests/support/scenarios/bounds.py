"""Message sequences that meet bounds, with lookups between the messages and results worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from builders.dns_builders import CNAME, TXT, A, T, asked, by_hand, record, reply, rr, wire
from scenarios.ordinary import HOST, ONLY_A, PTR_1234, found

QUESTION = b"\xc0\x0c"  # a pointer to the question
LONG = 86_400
Message = tuple[float, bytes]


@dataclass(frozen=True)
class Bounded:
    """Messages in order of arrival with lookups (keys alone) between them; then lookups, as of the end.

    `places` is the number of roots that hold a place in the end.
    """

    id: str
    says: str
    steps: tuple[Message | str, ...]
    lookups: tuple[tuple[str, dict[str, Any] | None], ...]
    places: int
    size: int = 5000
    owned: int = 4096


def resolves(seconds: float, name: str, address: str = "1.1.1.1", ttl: int = LONG) -> Message:
    """Return the answer to a question about a name: one address."""
    return T + seconds, reply(name, "A", rr(name, "A", address, ttl))


def pointer(last: int) -> Message:
    """Return the answer to a reverse question about 10.0.x.x."""
    name = f"{last % 256}.{last // 256}.0.10.in-addr.arpa"
    return T, by_hand(asked(wire(name), 12), record(QUESTION, 12, wire(f"h{last}.example")))


def texts(number: int) -> Message:
    """Return the answer to a TXT question about a name."""
    return T, by_hand(asked(wire(f"n{number}.com"), TXT), record(QUESTION, TXT, b"\x01x"))


BOUNDED = (
    Bounded(
        "tracee-B03",
        "An address of a live name and of an evicted name stays.",
        (resolves(0, "a.com"), resolves(1, "b.com"), resolves(2, "c.com", "3.3.3.3")),
        (
            ("b.com", found(["1.1.1.1"], ["b.com"], "b.com")),
            ("1.1.1.1", found(["1.1.1.1"], ["b.com"], "b.com")),
            ("a.com", None),
        ),
        places=2,
        size=2,
    ),
    Bounded(
        "tracee-B04",
        "An evicted name is no longer a name of an address that it shared.",
        (resolves(0, "a.com"), resolves(1, "b.com"), "a.com", resolves(2, "c.com", "3.3.3.3")),
        (("1.1.1.1", ONLY_A), ("a.com", ONLY_A), ("b.com", None)),
        places=2,
        size=2,
    ),
    Bounded(
        "tracee-B26-evicted",
        "An alias that was asked itself stays when the first question with this alias is evicted.",
        (
            (T, reply("www.com", "A", rr("www.com", "CNAME", "cdn.com", LONG), rr("cdn.com", "A", "1.1.1.1", LONG))),
            resolves(1, "cdn.com"),
            resolves(2, "c.com", "3.3.3.3"),
        ),
        (("cdn.com", found(["1.1.1.1"], ["cdn.com"], "cdn.com")), ("www.com", None)),
        places=2,
        size=2,
    ),
    Bounded(
        "tracee-B48",
        "An address keeps its reverse name when the name that resolved to it is evicted.",
        (resolves(0, "good.com", "1.2.3.4"), (T + 1, PTR_1234), resolves(2, "c.com", "3.3.3.3")),
        (("1.2.3.4", HOST), ("host.example", HOST), ("good.com", None)),
        places=2,
        size=2,
    ),
    Bounded(
        "tracee-B48-both",
        "An address whose question and reverse question were both evicted has no relation left.",
        (
            resolves(0, "good.com", "1.2.3.4"),
            (T + 1, PTR_1234),
            resolves(2, "c.com", "3.3.3.3"),
            resolves(3, "d.com", "4.4.4.4"),
        ),
        (("1.2.3.4", None), ("host.example", None)),
        places=2,
        size=2,
    ),
    Bounded(
        "tracee-B23",
        "A name that is resolved again and again is not evicted, although nobody looks it up.",
        (
            *(resolves(second, "busy.com") for second in range(1001)),
            resolves(1001, "b.com", "2.2.2.2"),
            resolves(1002, "busy.com"),
            resolves(1003, "c.com", "3.3.3.3"),
        ),
        (("busy.com", found(["1.1.1.1"], ["busy.com"], "busy.com")), ("b.com", None)),
        places=2,
        size=2,
    ),
    Bounded(
        "tracee-B24",
        "A name that is looked up is not evicted, even if it was an alias before it was asked.",
        (
            (T, reply("www.com", "A", rr("www.com", "CNAME", "a.com", LONG))),
            resolves(1, "a.com"),
            resolves(2, "b.com", "2.2.2.2"),
            *("a.com",) * 1000,
            resolves(3, "c.com", "3.3.3.3"),
        ),
        (("a.com", ONLY_A), ("b.com", None), ("www.com", None)),
        places=2,
        size=2,
    ),
    Bounded(
        "tracee-B25",
        "A name whose addresses rotate without end has a bounded number of relations, and only live ones are found.",
        tuple(resolves(n * 100, "a.com", f"10.0.{n // 256}.{n % 256}", ttl=1) for n in range(300)),
        (("a.com", found(["10.0.1.43"], ["a.com"], "a.com")), ("10.0.1.42", None)),
        places=1,
        size=1,
        owned=3,
    ),
    Bounded(
        "tracee-B25-live",
        "A name with more live answers than its bound keeps the newest.",
        tuple(resolves(n, "a.com", f"10.0.{n // 256}.{n % 256}") for n in range(300)),
        (("a.com", found(["10.0.1.43", "10.0.1.42", "10.0.1.41"], ["a.com"], "a.com")), ("10.0.1.40", None)),
        places=1,
        size=1,
        owned=3,
    ),
    Bounded(
        "tracee-B17",
        "Reverse names that were answered twice are evicted like any others.",
        tuple(pointer(last) for last in range(1000) for _ in range(2)),
        (
            ("10.0.3.231", found(["10.0.3.231"], ["h999.example"], "")),
            ("10.0.3.230", found(["10.0.3.230"], ["h998.example"], "")),
            ("10.0.3.229", None),
        ),
        places=2,
        size=2,
    ),
    Bounded(
        "tracee-B19",
        "Answers without a relation hold no place, however many names they are about.",
        tuple(texts(number) for number in range(2000)),
        (("n1999.com", None), ("", None)),
        places=0,
        size=2,
    ),
    Bounded(
        "tracee-B45",
        "A lookup of the smallest alias of itself, 35 bytes of UDP, terminates.",
        ((T, by_hand(asked(wire("foo"), CNAME), record(QUESTION, CNAME, QUESTION))),),
        (("foo", found([], ["foo"], "foo")),),
        places=1,
    ),
    Bounded(
        "tracee-B99",
        "After a lookup in a circle of aliases the next message is applied.",
        (
            (T, reply("x.com", "A", rr("x.com", "CNAME", "y.com"), rr("y.com", "CNAME", "x.com"))),
            "x.com",
            "y.com",
            (T + 1, by_hand(asked(wire("a.com")), record(QUESTION, A, bytes([1, 1, 1, 1])))),
        ),
        (("a.com", ONLY_A), ("1.1.1.1", ONLY_A), ("x.com", found([], ["x.com", "y.com"], "x.com"))),
        places=2,
    ),
)
