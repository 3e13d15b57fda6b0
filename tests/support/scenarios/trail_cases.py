"""Answers, a key, and the trails of the key: the cases of test_trail."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Answered:
    """The answer to a question, `after` seconds after T; its records are separated by "; "."""

    question: str
    records: str
    after: float = 0
    ttl: int = 300


@dataclass(frozen=True)
class Case:
    """Answers, a key, and its trails `after` seconds after T, the likeliest first (grace 60 s, history 300 s)."""

    says: str
    answers: tuple[Answered, ...]
    expected: tuple[str, ...]
    key: str = "1.1.1.1"
    after: float = 10


CASES = (
    Case("an address", (Answered("a", "a A 1.1.1.1"),), ("a: A 1.1.1.1 (live)",)),
    Case("a key in another spelling", (Answered("a", "a A 1.1.1.1"),), ("a: A 1.1.1.1 (live)",), key="::ffff:1.1.1.1"),
    Case("no siblings", (Answered("a", "a A 1.1.1.1; a A 1.1.1.2"),), ("a: A 1.1.1.1 (live)",)),
    Case("aliases", (Answered("a", "c A 1.1.1.1; b CNAME c; a CNAME b"),), ("a: CNAME b, CNAME c, A 1.1.1.1 (live)",)),
    Case("an alias as the key", (Answered("a", "a CNAME b; b A 1.1.1.1"),), ("a: CNAME b (live)",), key="b"),
    Case("the key itself was asked", (Answered("a", "a CNAME b; b A 1.1.1.1"),), ("a: (live)",), key="a"),
    Case(
        "a key that was asked and is an alias",
        (Answered("a", "a CNAME b; b A 1.1.1.1"), Answered("b", "b A 1.1.1.1", after=1)),
        ("b: (live)", "a: CNAME b (live)"),
        key="b",
    ),
    Case(
        "relations of different answers",
        (Answered("b", "b A 1.1.1.1"), Answered("a", "a CNAME b", after=1)),
        ("b: A 1.1.1.1 (live)", "a: CNAME b, A 1.1.1.1 (live)"),
    ),
    Case(
        "two questions with one alias",
        (Answered("a", "a CNAME c; c A 1.1.1.1"), Answered("b", "b CNAME c; c A 1.1.1.1", after=1)),
        ("b: CNAME c, A 1.1.1.1 (live)", "a: CNAME c, A 1.1.1.1 (live)"),
    ),
    Case(
        "the shortest path",
        (Answered("a", "a CNAME b; b CNAME c; c A 1.1.1.1; b A 1.1.1.1"),),
        ("a: CNAME b, A 1.1.1.1 (live)",),
    ),
    Case(
        "MX",
        (Answered("a MX", "a MX m.a"), Answered("m.a", "m.a A 1.1.1.1", after=1)),
        ("m.a: A 1.1.1.1 (live)", "a: MX m.a, A 1.1.1.1 (live)"),
    ),
    Case("SRV", (Answered("_x._tcp.a SRV", "_x._tcp.a SRV s.a"),), ("_x._tcp.a: SRV s.a (live)",), key="s.a"),
    Case("an address hint", (Answered("a HTTPS", "a HTTPS 1 . ipv4hint=1.1.1.1"),), ("a: HTTPS 1.1.1.1 (live)",)),
    Case(
        "an address hint of another name",
        (Answered("a SVCB", "a SVCB 1 s.a ipv6hint=2001:db8::1"),),
        ("a: SVCB s.a, SVCB 2001:db8::1 (live)",),
        key="2001:db8::1",
    ),
    Case("a loop", (Answered("a", "a CNAME b; b CNAME a; b A 1.1.1.1"),), ("a: CNAME b, A 1.1.1.1 (live)",)),
    Case("a key in a loop", (Answered("a", "a CNAME b; b CNAME a"),), ("a: CNAME b (live)",), key="b"),
    Case("a key that is an alias of itself", (Answered("a", "a CNAME a"),), ("a: (live)",), key="a"),
    Case(
        "a reverse question",
        (Answered("1.1.1.1.in-addr.arpa PTR", "1.1.1.1.in-addr.arpa PTR host.net"),),
        ("1.1.1.1: PTR host.net (live)",),
    ),
    Case(
        "a name from a reverse question",
        (Answered("1.1.1.1.in-addr.arpa PTR", "1.1.1.1.in-addr.arpa PTR host.net"),),
        ("1.1.1.1: PTR host.net (live)",),
        key="host.net",
    ),
    Case(
        "both directions",
        (
            Answered("a", "a A 1.1.1.1"),
            Answered("1.1.1.1.in-addr.arpa PTR", "1.1.1.1.in-addr.arpa PTR host.net", after=1),
        ),
        ("a: A 1.1.1.1 (live)", "1.1.1.1: PTR host.net (live)"),
    ),
    Case(
        "a resolved name has no PTR trails",
        (
            Answered("host.net", "host.net A 1.1.1.2"),
            Answered("1.1.1.1.in-addr.arpa PTR", "1.1.1.1.in-addr.arpa PTR host.net", after=1),
        ),
        ("host.net: (live)",),
        key="host.net",
    ),
    Case(
        "a name whose own answers have expired has PTR trails",
        (
            Answered("host.net", "host.net A 1.1.1.2", ttl=5),
            Answered("1.1.1.1.in-addr.arpa PTR", "1.1.1.1.in-addr.arpa PTR host.net", after=1),
        ),
        ("host.net: (expired)", "1.1.1.1: PTR host.net (live)"),
        key="host.net",
        after=100,
    ),
    Case("past the TTL", (Answered("a", "a A 1.1.1.1", ttl=5),), ("a: A 1.1.1.1 (grace)",), after=5),
    Case("past the grace", (Answered("a", "a A 1.1.1.1", ttl=5),), ("a: A 1.1.1.1 (expired)",), after=65),
    Case(
        "the state of the weakest step",
        (Answered("a", "a CNAME b ttl=300; b A 1.1.1.1 ttl=5", ttl=0),),
        ("a: CNAME b, A 1.1.1.1 (grace)",),
        after=6,
    ),
    Case(
        "the state of the best relation of the key",
        (Answered("a", "a A 1.1.1.1 ttl=300; a A 1.1.1.2 ttl=5", ttl=0),),
        ("a: (live)",),
        key="a",
        after=100,
    ),
    Case(
        "an expired question after a live one, though it was asked later",
        (Answered("a", "a A 1.1.1.1"), Answered("b", "b A 1.1.1.1", after=1, ttl=5)),
        ("a: A 1.1.1.1 (live)", "b: A 1.1.1.1 (expired)"),
        after=100,
    ),
    Case(
        "a live path before a shorter expired path",
        (Answered("a", "a CNAME b; b A 1.1.1.1"), Answered("a", "a A 1.1.1.1", ttl=5)),
        ("a: CNAME b, A 1.1.1.1 (live)",),
        after=100,
    ),
    Case(
        "an expired alias",
        (Answered("a", "a CNAME b ttl=5; b A 1.1.1.1 ttl=3600", ttl=0),),
        ("a: CNAME b, A 1.1.1.1 (expired)",),
        after=100,
    ),
    Case(
        "an alias that ended long before its address",
        (Answered("a", "a CNAME b ttl=5; b A 1.1.1.1 ttl=3600", ttl=0), Answered("z", "z A 9.9.9.9", after=400)),
        ("a: CNAME b, A 1.1.1.1 (expired)",),
        after=401,
    ),
    Case(
        "an alias that ended long before, of the key",
        (Answered("a", "a CNAME b ttl=5; b A 1.1.1.1 ttl=3600", ttl=0), Answered("z", "z A 9.9.9.9", after=400)),
        ("a: CNAME b (expired)",),
        key="b",
        after=401,
    ),
    Case(
        "an alias that ended long before, to an alias that was asked",
        (
            Answered("a", "a CNAME b ttl=5; b CNAME c ttl=3600; c A 1.1.1.1 ttl=3600", ttl=0),
            Answered("b", "b CNAME c ttl=3600; c A 1.1.1.1 ttl=3600", after=400, ttl=0),
        ),
        ("b: CNAME c, A 1.1.1.1 (live)", "a: CNAME b, CNAME c, A 1.1.1.1 (expired)"),
        after=401,
    ),
)
