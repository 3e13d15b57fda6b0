"""The form of a case, builders of messages, and the cases of loops, resolutions and reverse names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from builders.dns_builders import T, reply, rr


@dataclass(frozen=True)
class Case:
    """Messages in order of arrival, then lookups: key, at, and the expected result (None: not found)."""

    id: str
    says: str
    messages: tuple[tuple[float, bytes], ...]
    lookups: tuple[tuple[str, float | None, dict[str, Any] | None], ...]
    grace: float = 0.0


def found(addresses: list[str], names: list[str], root: str, state: str | None = None) -> dict[str, Any]:
    """Return the expected result of a lookup; the state is given only where the case is about it."""
    expected: dict[str, Any] = {"ip_addresses": addresses, "dns_queries": names, "dns_root": root}
    return expected if state is None else expected | {"state": state}


def ladder(rungs: int) -> bytes:
    """Return a response in which every alias on one rung leads to both aliases of the next: 4 * rungs records."""
    records = [rr("top.example", "CNAME", f"{side}01.example") for side in "ab"]
    for rung in range(1, rungs):
        ends = [(left, right) for left in "ab" for right in "ab"]
        records += [rr(f"{left}{rung:02}.example", "CNAME", f"{right}{rung + 1:02}.example") for left, right in ends]
    records += [rr(f"{side}{rungs:02}.example", "A", "6.6.6.6") for side in "ab"]
    return reply("top.example", "A", *records)


def ladder_names(rungs: int) -> list[str]:
    """Return the names of a ladder in the order of a lookup of its address: first the chain on side a, then side b."""
    return ["top.example"] + [f"{side}{rung:02}.example" for side in "ab" for rung in range(1, rungs + 1)]


PTR_1234 = reply("4.3.2.1.in-addr.arpa", "PTR", rr("4.3.2.1.in-addr.arpa", "PTR", "host.example"))
HOST = found(["1.2.3.4"], ["host.example"], "")
NIBBLES = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
ONLY_A = found(["1.1.1.1"], ["a.com"], "a.com")
DNS_SD = "_http._tcp.local"
DEEP = 1500

LOOPS = (
    Case(
        "tracee-B54",
        "A domain that is its own mail exchange is found without an address.",
        ((T, reply("cmmeiers.com", "MX", rr("cmmeiers.com", "MX", "10 cmmeiers.com"))),),
        (("cmmeiers.com", None, found([], ["cmmeiers.com"], "cmmeiers.com", "live")),),
    ),
    Case(
        "self-mx-with-address",
        "A domain that is its own mail exchange keeps its address.",
        (
            (T, reply("m.com", "MX", rr("m.com", "MX", "10 m.com"), rr("m.com", "MX", "20 x.com"))),
            (T + 1, reply("m.com", "A", rr("m.com", "A", "1.1.1.1"))),
            (T + 2, reply("x.com", "A", rr("x.com", "A", "2.2.2.2"))),
        ),
        (
            ("m.com", None, found(["1.1.1.1", "2.2.2.2"], ["m.com", "x.com"], "m.com", "live")),
            ("1.1.1.1", None, found(["1.1.1.1"], ["m.com"], "m.com")),
        ),
    ),
    Case(
        "tracee-B10",
        "An alias of itself is found without an address.",
        ((T, reply("a.com", "A", rr("a.com", "CNAME", "a.com"))),),
        (("a.com", None, found([], ["a.com"], "a.com", "live")),),
    ),
    Case(
        "tracee-B11",
        "Two aliases of each other are found from either side, the question first.",
        ((T, reply("a.com", "A", rr("a.com", "CNAME", "b.com"), rr("b.com", "CNAME", "a.com"))),),
        (
            ("a.com", None, found([], ["a.com", "b.com"], "a.com")),
            ("b.com", None, found([], ["a.com", "b.com"], "a.com")),
        ),
    ),
    Case(
        "tracee-B12c",
        "An alias of itself does not hide the address beside it.",
        ((T, reply("evil.com", "A", rr("evil.com", "CNAME", "evil.com"), rr("evil.com", "A", "6.6.6.6"))),),
        (
            ("6.6.6.6", None, found(["6.6.6.6"], ["evil.com"], "evil.com", "live")),
            ("evil.com", None, found(["6.6.6.6"], ["evil.com"], "evil.com", "live")),
        ),
    ),
    Case(
        "tracee-B12",
        "Address literals and the root make no relation, as owner or as target.",
        (
            (T, reply("1.2.3.4", "A", rr("1.2.3.4", "A", "1.2.3.4"))),
            (T, reply("7.7.7.7", "PTR", rr("7.7.7.7", "PTR", "7.7.7.7"))),
            (T, reply("7.7.7.7.in-addr.arpa", "PTR", rr("7.7.7.7.in-addr.arpa", "PTR", "7.7.7.7"))),
            (T, reply(".", "NS", rr(".", "NS", "a.root-servers.net"))),
            (T, reply("5.5.5.5", "A", rr("5.5.5.5", "CNAME", "b.com"), rr("b.com", "A", "5.5.5.5"))),
        ),
        tuple((key, None, None) for key in ("1.2.3.4", "7.7.7.7", ".", "", "5.5.5.5", "b.com")),
    ),
    Case(
        "tracee-B13",
        "A ladder of 56 records, with two aliases on each rung, has each alias once.",
        ((T, ladder(14)),),
        (
            ("6.6.6.6", None, found(["6.6.6.6"], ladder_names(14), "top.example")),
            ("top.example", None, found(["6.6.6.6"], ladder_names(14), "top.example")),
        ),
    ),
    Case(
        "tracee-B13-60",
        "A ladder of 60 records takes no longer than a ladder of 56.",
        ((T, ladder(15)),),
        (("6.6.6.6", None, found(["6.6.6.6"], ladder_names(15), "top.example")),),
    ),
    Case(
        "ladder-of-60-aliases",
        "Sixty aliases in one message, in reverse order, lead from the question to the address.",
        (
            (
                T,
                reply(
                    "c00.net",
                    "A",
                    rr("c60.net", "A", "6.6.6.6"),
                    *(rr(f"c{i:02}.net", "CNAME", f"c{i + 1:02}.net") for i in reversed(range(60))),
                ),
            ),
        ),
        (
            ("6.6.6.6", None, found(["6.6.6.6"], [f"c{i:02}.net" for i in range(61)], "c00.net")),
            ("c30.net", None, found(["6.6.6.6"], [f"c{i:02}.net" for i in range(61)], "c00.net")),
        ),
    ),
    Case(
        "tracee-B50",
        "A lookup in a circle of aliases from several messages terminates; ties are ordered by name.",
        tuple(
            (T, reply(f"n{i:04}.com", "A", rr(f"n{i:04}.com", "CNAME", f"n{(i + 1) % DEEP:04}.com")))
            for i in range(DEEP)
        ),
        (("n0000.com", None, found([], [f"n{i:04}.com" for i in range(DEEP)], "n0000.com")),),
    ),
    Case(
        "tracee-B51",
        "A chain over many messages is followed to its end; each name is ordered by its own last sighting.",
        (
            *(
                (T + i, reply(f"n{i:04}.com", "A", rr(f"n{i:04}.com", "CNAME", f"n{i + 1:04}.com", 86400)))
                for i in range(DEEP)
            ),
            (T + DEEP, reply(f"n{DEEP}.com", "A", rr(f"n{DEEP}.com", "A", "6.6.6.6", 86400))),
        ),
        (
            (
                "6.6.6.6",
                None,
                found(["6.6.6.6"], [f"n{i:04}.com" for i in range(DEEP, -1, -1)], f"n{DEEP}.com"),
            ),
            (
                "n0000.com",
                None,
                found(
                    ["6.6.6.6"],
                    ["n0000.com", *(f"n{i:04}.com" for i in range(DEEP, 0, -1))],
                    "n0000.com",
                ),
            ),
        ),
    ),
)

RESOLUTIONS = (
    Case(
        "tracee-B01",
        "An address of two names has both names, the latest question first.",
        (
            (T, reply("a.com", "A", rr("a.com", "A", "1.1.1.1"))),
            (T + 1, reply("b.com", "A", rr("b.com", "A", "1.1.1.1"))),
        ),
        (
            ("b.com", None, found(["1.1.1.1"], ["b.com"], "b.com")),
            ("a.com", None, found(["1.1.1.1"], ["a.com"], "a.com")),
            ("1.1.1.1", None, found(["1.1.1.1"], ["b.com", "a.com"], "b.com")),
        ),
    ),
    Case(
        "tracee-B02",
        "An alias to a name that was asked before keeps the alias and the address.",
        (
            (T, reply("cdn.net", "A", rr("cdn.net", "A", "2.2.2.2"))),
            (
                T + 1,
                reply("www.a.com", "A", rr("www.a.com", "CNAME", "cdn.net"), rr("cdn.net", "A", "2.2.2.2")),
            ),
        ),
        (
            ("www.a.com", None, found(["2.2.2.2"], ["www.a.com", "cdn.net"], "www.a.com")),
            ("2.2.2.2", None, found(["2.2.2.2"], ["www.a.com", "cdn.net"], "www.a.com")),
            ("cdn.net", None, found(["2.2.2.2"], ["cdn.net", "www.a.com"], "cdn.net")),
        ),
    ),
    Case(
        "tracee-B30",
        "Two names with one alias both lead to its address.",
        (
            (T, reply("p.com", "A", rr("p.com", "CNAME", "c.net"), rr("c.net", "A", "3.3.3.3"))),
            (T + 1, reply("q.com", "A", rr("q.com", "CNAME", "c.net"), rr("c.net", "A", "3.3.3.3"))),
        ),
        (
            ("p.com", None, found(["3.3.3.3"], ["p.com", "c.net"], "p.com")),
            ("q.com", None, found(["3.3.3.3"], ["q.com", "c.net"], "q.com")),
            ("3.3.3.3", None, found(["3.3.3.3"], ["q.com", "c.net", "p.com"], "q.com")),
            ("c.net", None, found(["3.3.3.3"], ["q.com", "c.net", "p.com"], "q.com")),
        ),
    ),
    Case(
        "tracee-B49",
        "A question with two paths to one address is listed once.",
        (
            (
                T,
                reply(
                    "q.com",
                    "A",
                    rr("q.com", "CNAME", "l.com"),
                    rr("q.com", "CNAME", "r.com"),
                    rr("r.com", "CNAME", "s.com"),
                    rr("l.com", "A", "4.4.4.4"),
                    rr("s.com", "A", "4.4.4.4"),
                ),
            ),
        ),
        (("4.4.4.4", None, found(["4.4.4.4"], ["q.com", "l.com", "r.com", "s.com"], "q.com")),),
    ),
    Case(
        "tracee-B29",
        "An address record before the alias that leads to it counts.",
        ((T, reply("w.com", "A", rr("c.net", "A", "9.9.9.9"), rr("w.com", "CNAME", "c.net"))),),
        (
            ("w.com", None, found(["9.9.9.9"], ["w.com", "c.net"], "w.com")),
            ("c.net", None, found(["9.9.9.9"], ["w.com", "c.net"], "w.com")),
        ),
    ),
    Case(
        "tracee-B33",
        "The address of a mail exchange follows the domain's own address, however new it is.",
        (
            (T, reply("x.com", "A", rr("x.com", "A", "2.2.2.2"))),
            (T + 1, reply("x.com", "MX", rr("x.com", "MX", "10 mx.x.com"))),
            (T + 2, reply("mx.x.com", "A", rr("mx.x.com", "A", "1.1.1.1"))),
        ),
        (
            ("x.com", None, found(["2.2.2.2", "1.1.1.1"], ["x.com", "mx.x.com"], "x.com")),
            ("1.1.1.1", None, found(["1.1.1.1"], ["mx.x.com", "x.com"], "mx.x.com")),
        ),
    ),
    Case(
        "tracee-B26",
        "A name that was first an alias becomes a root when it is asked.",
        (
            (T, reply("www.com", "A", rr("www.com", "CNAME", "cdn.com"), rr("cdn.com", "A", "1.1.1.1"))),
            (T + 1, reply("cdn.com", "A", rr("cdn.com", "A", "1.1.1.1"))),
        ),
        (
            ("cdn.com", None, found(["1.1.1.1"], ["cdn.com", "www.com"], "cdn.com")),
            ("1.1.1.1", None, found(["1.1.1.1"], ["cdn.com", "www.com"], "cdn.com")),
            ("www.com", None, found(["1.1.1.1"], ["www.com", "cdn.com"], "www.com")),
        ),
    ),
)

REVERSE = (
    Case(
        "tracee-B14",
        "A reverse answer belongs to the address that its question encodes, not to the octets in reverse order.",
        (
            (T, PTR_1234),
            (T, reply(NIBBLES, "PTR", rr(NIBBLES, "PTR", "six.example"))),
        ),
        (
            ("1.2.3.4", None, HOST | {"state": "live"}),
            ("4.3.2.1", None, None),
            ("4.3.2.1.in-addr.arpa", None, HOST),
            ("host.example", None, HOST | {"state": "live"}),
            ("2001:db8::1", None, found(["2001:db8::1"], ["six.example"], "")),
            (NIBBLES.upper(), None, found(["2001:db8::1"], ["six.example"], "")),
        ),
    ),
    Case(
        "tracee-B15",
        "A reverse answer does not affect the address with the octets in reverse order.",
        ((T, reply("good.com", "A", rr("good.com", "A", "4.3.2.1"))), (T + 1, PTR_1234)),
        (("4.3.2.1", None, found(["4.3.2.1"], ["good.com"], "good.com")), ("1.2.3.4", None, HOST)),
    ),
    Case(
        "tracee-B16",
        "The same reverse answer twice gives one name.",
        ((T, PTR_1234), (T + 1, PTR_1234)),
        (("1.2.3.4", None, HOST),),
    ),
    Case(
        "tracee-B32",
        "A reverse name follows the names that resolve to the address.",
        (
            (T, reply("1.1.1.1.in-addr.arpa", "PTR", rr("1.1.1.1.in-addr.arpa", "PTR", "one.example"))),
            (T + 1, reply("a.com", "A", rr("a.com", "A", "1.1.1.1"))),
        ),
        (
            ("a.com", None, ONLY_A),
            ("1.1.1.1", None, found(["1.1.1.1"], ["a.com", "one.example"], "a.com")),
            ("one.example", None, found(["1.1.1.1"], ["one.example"], "")),
        ),
    ),
    Case(
        "tracee-B46",
        "Service discovery by PTR makes no relation.",
        ((T, reply(DNS_SD, "PTR", rr(DNS_SD, "PTR", f"printer.{DNS_SD}"))),),
        ((DNS_SD, None, None), (f"printer.{DNS_SD}", None, None)),
    ),
    Case(
        "tracee-B47",
        "A reverse answer through an alias (RFC 2317) lives as long as the shortest TTL of its chain.",
        (
            (
                T,
                reply(
                    "5.2.0.192.in-addr.arpa",
                    "PTR",
                    rr("5.2.0.192.in-addr.arpa", "CNAME", "5.0/25.2.0.192.in-addr.arpa", 60),
                    rr("5.0/25.2.0.192.in-addr.arpa", "PTR", "host.example", 3600),
                ),
            ),
            (T, reply("2.0.192.in-addr.arpa", "A", rr("2.0.192.in-addr.arpa", "A", "8.8.8.8"))),
            (T, reply("9.2.0.192.in-addr.arpa", "A", rr("9.2.0.192.in-addr.arpa", "A", "8.8.8.8"))),
        ),
        (
            ("192.0.2.5", T + 59, found(["192.0.2.5"], ["host.example"], "")),
            ("host.example", T + 59, found(["192.0.2.5"], ["host.example"], "")),
            ("192.0.2.5", T + 60, None),
            ("5.0/25.2.0.192.in-addr.arpa", T, None),
            ("8.8.8.8", T, None),
            ("192.0.2.9", T, None),
        ),
    ),
)
