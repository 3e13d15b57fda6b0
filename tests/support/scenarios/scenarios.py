"""Message sequences that are easy to get wrong, with results worked out by hand from the design."""

from __future__ import annotations

import struct

import dns.flags
import dns.name

from builders.dns_builders import AAAA, CNAME, HTTPS, TXT, A, T, asked, by_hand, record, reply, rr, wire
from scenarios.ordinary import LOOPS, ONLY_A, RESOLUTIONS, REVERSE, Case, found

P = b"\xc0\x0c"  # a pointer to the question
ONE, TWO = bytes([1, 1, 1, 1]), bytes([1, 1, 1, 2])
V6 = "2606:4700:10::6816:1f"
SVCB_V4 = b"\x00\x04\x00\x04" + TWO  # the parameter ipv4hint=1.1.1.2

NAMES = (
    Case(
        "tracee-B18",
        "Records without a relation leave no name in the image.",
        (
            (T, reply("a.com", "TXT", rr("a.com", "TXT", '"x"'))),
            (T, reply("b.com", "HTTPS", rr("b.com", "HTTPS", "1 . alpn=h2"))),
            (T, reply("c.com", "NS", rr("c.com", "NS", "ns.c.com"))),
        ),
        tuple((key, None, None) for key in ("a.com", "b.com", "c.com", "ns.c.com", "")),
    ),
    Case(
        "tracee-B20",
        "A question in mixed case has the same name.",
        (
            (T, reply("GoOgLe.CoM", "A", rr("GoOgLe.CoM", "A", "8.1.1.1"))),
            (T + 1, reply("google.com", "A", rr("google.com", "A", "8.1.1.2"))),
        ),
        (("google.com", None, found(["8.1.1.2", "8.1.1.1"], ["google.com"], "google.com")),),
    ),
    Case(
        "tracee-B21",
        "A name or an address is found in every usual spelling.",
        (
            (T, reply("a.com", "A", rr("a.com", "A", "1.1.1.1"))),
            (T, reply("v6.com", "AAAA", rr("v6.com", "AAAA", V6))),
            (T, reply("xn--bcher-kva.example", "A", rr("xn--bcher-kva.example", "A", "5.5.5.5"))),
        ),
        (
            *((key, None, ONLY_A) for key in ("a.com.", "A.COM", "::ffff:1.1.1.1", " 1.1.1.1", "1.1.1.1.")),
            *((key, None, ONLY_A) for key in ("1.1.1.1.in-addr.arpa.", "::FFFF:0101:0101", "[::ffff:1.1.1.1]")),
            *(
                (key, None, found([V6], ["v6.com"], "v6.com"))
                for key in ("2606:4700:0010:0::6816:1f", V6.upper(), f"[{V6}]", f"{V6}%eth0")
            ),
            *(
                (key, None, found(["5.5.5.5"], ["xn--bcher-kva.example"], "xn--bcher-kva.example"))
                for key in ("bücher.example", "BÜCHER.example.")
            ),
            *((key, None, None) for key in ("a..com", "x" * 64 + ".com", "1.in-addr.arpa", "\\", "\x00")),
        ),
    ),
    Case(
        "tracee-B43",
        "A dot or an odd byte inside a label is escaped, so such a name equals no other name.",
        (
            (
                T,
                reply(
                    dns.name.Name([b"a.b.com", b""]),
                    "A",
                    rr(dns.name.Name([b"a.b.com", b""]), "A", "6.6.6.6"),
                ),
            ),
            (
                T,
                by_hand(asked(b"\x03\x00\x0a\xff\x03com\x00"), record(P, A, ONE)),
            ),
        ),
        (
            ("a.b.com", None, None),
            ("a\\.b\\.com", None, found(["6.6.6.6"], ["a\\.b\\.com"], "a\\.b\\.com")),
            ("1.1.1.1", None, found(["1.1.1.1"], ["\\000\\010\\255.com"], "\\000\\010\\255.com")),
        ),
    ),
)

TIMES = (
    Case(
        "tracee-B05",
        "Expired relations are not found, whether alone or beside fresh relations.",
        (
            (T, reply("a.com", "A", rr("a.com", "A", "1.1.1.1", 60))),
            (T + 86400, reply("a.com", "A", rr("a.com", "A", "1.1.1.2", 60))),
        ),
        (
            ("a.com", None, found(["1.1.1.2"], ["a.com"], "a.com")),
            ("1.1.1.1", None, None),
            ("a.com", T + 86460, None),
        ),
    ),
    Case(
        "tracee-B06",
        "A question whose alias has expired is still the root of the relations of its answer.",
        ((T, reply("w.com", "A", rr("w.com", "CNAME", "c.net", 1), rr("c.net", "A", "1.1.1.1", 3600))),),
        (
            ("w.com", T + 10, None),
            ("c.net", T + 10, found(["1.1.1.1"], ["w.com", "c.net"], "w.com")),
            ("1.1.1.1", T + 10, found(["1.1.1.1"], ["w.com", "c.net"], "w.com")),
        ),
    ),
    Case(
        "tracee-B06-grace",
        "An expired alias in its grace still leads to its live address, with state grace.",
        ((T, reply("w.com", "A", rr("w.com", "CNAME", "c.net", 1), rr("c.net", "A", "1.1.1.1", 3600))),),
        (
            ("w.com", T + 10, found(["1.1.1.1"], ["w.com", "c.net"], "w.com", "grace")),
            ("c.net", T + 10, found(["1.1.1.1"], ["w.com", "c.net"], "w.com", "live")),
            ("w.com", T + 61, None),
        ),
        grace=60.0,
    ),
    Case(
        "tracee-B07",
        "A short alias to a name does not shorten the life of the name.",
        (
            (T, reply("b.com", "A", rr("b.com", "A", "1.1.1.1", 3600))),
            (T + 1, reply("a.com", "A", rr("a.com", "CNAME", "b.com", 1))),
        ),
        (
            ("b.com", T + 1, found(["1.1.1.1"], ["b.com", "a.com"], "b.com")),
            ("b.com", T + 10, found(["1.1.1.1"], ["b.com"], "b.com")),
        ),
    ),
    Case(
        "tracee-B08",
        "A name whose alias has expired is found as soon as it is resolved itself.",
        (
            (T, reply("a.com", "A", rr("a.com", "CNAME", "b.com", 1))),
            (T + 10, reply("b.com", "A", rr("b.com", "A", "1.1.1.1"))),
        ),
        (("b.com", None, found(["1.1.1.1"], ["b.com"], "b.com")), ("a.com", None, None)),
    ),
    Case(
        "tracee-B09",
        "Each name of a shared address keeps it for its own TTL.",
        (
            (T, reply("long.com", "A", rr("long.com", "A", "1.1.1.1", 86400))),
            (T + 1, reply("short.com", "A", rr("short.com", "A", "1.1.1.1", 1))),
        ),
        (
            ("1.1.1.1", T + 1, found(["1.1.1.1"], ["short.com", "long.com"], "short.com")),
            ("1.1.1.1", T + 100, found(["1.1.1.1"], ["long.com"], "long.com")),
            ("short.com", T + 100, None),
        ),
    ),
    Case(
        "tracee-B31",
        "A relation with TTL 0 is in grace from the first instant.",
        (
            (T, reply("a.com", "A", rr("a.com", "A", "1.1.1.1", 0))),
            (T, by_hand(asked(wire("b.com")), record(P, A, TWO, ttl=2**32 - 1))),
        ),
        (
            ("a.com", T, ONLY_A | {"state": "grace"}),
            ("1.1.1.2", T + 59.5, found(["1.1.1.2"], ["b.com"], "b.com", "grace")),
            ("a.com", T + 60, None),
            ("b.com", T + 60, None),
        ),
        grace=60.0,
    ),
    Case(
        "tracee-B31-cap",
        "A TTL counts as at most seven days, and a TTL with the sign bit as zero.",
        (
            (T, by_hand(asked(wire("a.com")), record(P, A, ONE, ttl=2**31 - 1))),
            (T, by_hand(asked(wire("b.com")), record(P, A, TWO, ttl=2**31))),
        ),
        (("a.com", T + 604_799, ONLY_A), ("a.com", T + 604_800, None), ("b.com", T, None)),
    ),
    Case(
        "tracee-B28",
        "Stamps that count from the start of a capture work as well as epoch seconds.",
        ((0.5, reply("a.com", "A", rr("a.com", "A", "1.1.1.1"))),),
        (("a.com", None, ONLY_A), ("a.com", 300.25, ONLY_A), ("a.com", 300.5, None)),
    ),
    Case(
        "ended-question",
        "A question whose answer has ended is no root, although another answer states its relation again.",
        (
            (T, reply("c.net", "A", rr("c.net", "A", "1.1.1.1", 10))),
            (
                T + 10,
                reply("w.com", "A", rr("w.com", "CNAME", "c.net", 30), rr("c.net", "A", "1.1.1.1", 20)),
            ),
        ),
        (
            ("c.net", None, found(["1.1.1.1"], ["w.com", "c.net"], "w.com")),
            ("1.1.1.1", None, found(["1.1.1.1"], ["w.com", "c.net"], "w.com")),
            ("1.1.1.1", T + 30, None),
            ("w.com", T + 30, found([], ["w.com", "c.net"], "w.com", "live")),
        ),
    ),
    Case(
        "out-of-order",
        "A message that arrives late is as old as its stamp, but its question is the latest.",
        (
            (T + 5, reply("a.com", "A", rr("a.com", "A", "1.1.1.1"))),
            (T, reply("b.com", "A", rr("b.com", "CNAME", "a.com"), rr("a.com", "A", "1.1.1.2"))),
            (T + 1, reply("c.com", "A", rr("c.com", "A", "1.1.1.1"))),
        ),
        (
            ("a.com", None, found(["1.1.1.1", "1.1.1.2"], ["a.com", "b.com"], "a.com")),
            ("1.1.1.1", None, found(["1.1.1.1"], ["c.com", "a.com", "b.com"], "c.com")),
            ("1.1.1.2", None, found(["1.1.1.2"], ["b.com", "a.com"], "b.com")),
        ),
    ),
)

WIRE = (
    Case(
        "tracee-B22",
        "A record is dropped if the question does not lead to its owner.",
        ((T, reply("evil.com", "A", rr("evil.com", "A", "6.6.6.6"), rr("bank.com", "A", "6.6.6.7"))),),
        (
            ("evil.com", None, found(["6.6.6.6"], ["evil.com"], "evil.com")),
            ("bank.com", None, None),
            ("6.6.6.7", None, None),
        ),
    ),
    Case(
        "which-messages-count",
        "Any rcode and a truncated message count; queries, other opcodes and other classes do not.",
        (
            (T, reply("a.com", "A", rr("a.com", "A", "1.1.1.1"), flags=dns.flags.TC | 3)),
            (T, by_hand(asked(wire("q.com")), record(P, A, TWO), flags=0x0100)),
            (T, by_hand(asked(wire("u.com")), record(P, A, TWO), flags=0xA800)),
            (T, by_hand(asked(wire("ch.com"), klass=3), record(P, A, TWO))),
            (T, by_hand(asked(wire("m.com"), klass=0x8001), record(P, A, TWO))),
            (T, by_hand(asked(wire("r.com")), record(P, A, TWO, klass=3))),
        ),
        (("a.com", None, ONLY_A), ("1.1.1.2", None, None)),
    ),
    Case(
        "tracee-B27",
        "A response with no question or with two makes no relation.",
        (
            (T, by_hand(b"", record(wire("a.com"), A, ONE), counts="0 1 0")),
            (T, by_hand(asked(wire("a.com")) + asked(P, AAAA), record(P, A, ONE), counts="2 1 0")),
        ),
        (("a.com", None, None), ("1.1.1.1", None, None)),
    ),
    Case(
        "tracee-B41",
        "The address hints of a service binding belong to its target, or to its owner if the target is the root.",
        (
            (
                T,
                reply(
                    "s.com",
                    "HTTPS",
                    rr("s.com", "HTTPS", f"1 . ipv4hint=9.0.0.2,9.0.0.1 ipv6hint={V6},::ffff:9.0.0.3"),
                ),
            ),
            (T, reply("x.com", "HTTPS", rr("x.com", "HTTPS", "1 t.net ipv4hint=9.0.0.9"))),
            (T, reply("y.com", "HTTPS", rr("y.com", "HTTPS", "0 alias.net"))),
            (
                T,
                by_hand(asked(wire("z.com"), HTTPS), record(P, HTTPS, b"\x00\x00" + wire("z.net") + SVCB_V4)),
            ),
        ),
        (
            ("s.com", None, found(["9.0.0.2", "9.0.0.1", V6, "9.0.0.3"], ["s.com"], "s.com")),
            ("x.com", None, found(["9.0.0.9"], ["x.com", "t.net"], "x.com")),
            ("9.0.0.9", None, found(["9.0.0.9"], ["x.com", "t.net"], "x.com")),
            ("y.com", None, found([], ["y.com", "alias.net"], "y.com")),
            ("z.com", None, None),
        ),
    ),
    Case(
        "tracee-B42",
        "A bad record in another section, or an answer cut short, costs no complete answer.",
        (
            (T, by_hand(asked(wire("a.com")), record(P, A, ONE), record(P, TXT, b"\x09x"), counts="1 1 1")),
            (T, by_hand(asked(wire("b.com")), record(P, A, ONE), record(P, A, TWO)[:-1], flags=0x8380)),
        ),
        (
            ("a.com", None, ONLY_A),
            ("b.com", None, found(["1.1.1.1"], ["b.com"], "b.com")),
            ("1.1.1.2", None, None),
        ),
    ),
    Case(
        "tracee-B44",
        "An address record of a wrong length is skipped; an IPv4-mapped address counts as IPv4.",
        (
            (
                T,
                by_hand(asked(wire("a.com")), record(P, A, ONE + b"\x05"), record(P, A, b""), record(P, A, ONE)),
            ),
            (T, reply("m.com", "AAAA", rr("m.com", "AAAA", "::ffff:1.2.3.4"))),
        ),
        (("a.com", None, ONLY_A), ("m.com", None, found(["1.2.3.4"], ["m.com"], "m.com"))),
    ),
    Case(
        "pointer-bomb",
        "Chained, circular and forward compression pointers end, and the next message is applied.",
        (
            (
                T,  # each owner points to the owner before it: owner k is k + 1 pointers deep
                by_hand(
                    asked(wire("p.com")),
                    *(record(struct.pack("!H", 0xC000 | (23 + 16 * k - 16 if k else 12)), A, ONE) for k in range(900)),
                ),
            ),
            (T, by_hand(asked(b"\xc0\x0c"), record(P, A, TWO))),  # the question points to itself
            (
                T,
                by_hand(asked(wire("f.com")), record(P, A, ONE), record(b"\xc0\x60", A, TWO), record(P, A, TWO)),
            ),
            (T, by_hand(asked(wire("g.com")), record(P, CNAME, b"\xc0\x23"), record(P, A, ONE))),
            (T, by_hand(asked(wire("h.com")), record(P, CNAME, b"\x3fx" * 300), record(P, A, ONE))),
            *((T, junk) for junk in (b"", b"\x00" * 11, b"\xff" * 64, b"\x81\x80" * 300)),
            (T + 1, reply("a.com", "A", rr("a.com", "A", "1.1.1.1"))),
        ),
        (
            ("p.com", None, found(["1.1.1.1"], ["p.com"], "p.com")),
            ("f.com", None, found(["1.1.1.1"], ["f.com"], "f.com")),
            ("g.com", None, found(["1.1.1.1"], ["g.com"], "g.com")),
            ("h.com", None, found(["1.1.1.1"], ["h.com"], "h.com")),
            ("1.1.1.2", None, None),
            ("a.com", None, ONLY_A),
            ("1.1.1.1", None, found(["1.1.1.1"], ["a.com", "f.com", "g.com", "h.com", "p.com"], "a.com")),
        ),
    ),
)

CASES: tuple[Case, ...] = LOOPS + RESOLUTIONS + REVERSE + NAMES + TIMES + WIRE
