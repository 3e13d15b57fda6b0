"""Random messages about a few common names and addresses: good, odd and hostile."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from itertools import pairwise
from random import Random

from hypothesis import strategies as st

from builders.dns_builders import AAAA, CNAME, HTTPS, TXT, A, asked, by_hand, record, wire

MX, SRV, SVCB, PTR = 15, 33, 64, 12
NAMES = ("a", "b", "c.a", "d.net", "e", "f.net")
ADDRESSES = ("1.1.1.1", "1.1.1.2", "2001:db8::1")
REVERSE = ("1.1.1.1.in-addr.arpa", "2.1.1.1.in-addr.arpa", "5.0/25.1.1.1.in-addr.arpa")
ODD = ("1.1.1.1", "1.1.1.1.in-addr.arpa", "x.ip6.arpa", ".")  # names that relate nothing
KEYS = (*NAMES, *ADDRESSES, *REVERSE, "zz", "E.", "::ffff:1.1.1.1")
TTLS = (0, 0, 1, 5, 5, 30, 30, 60, 300, 300, 3600, 604_800, 604_801, 2**31 - 1, 2**31, 2**32 - 1)
PACKED = (*(ip_address(text).packed for text in ADDRESSES), ip_address("::ffff:1.1.1.1").packed)
QUESTION = b"\xc0\x0c"  # a pointer to the question
LOOPS = (b"\xc0\x0c", b"\xc0\x00", b"\xc0\x20", b"\xc0\xff", b"\xff\xff", b"\x40", b"\x3fa", b"")


@lru_cache
def name_wire(name: str, upper: bool) -> bytes:
    """Return an uncompressed name, in lower or upper case."""
    return wire(name).upper() if upper else wire(name)


def any_name(random: Random) -> bytes:
    """Return a name, sometimes one that makes no relation."""
    return name_wire(random.choice(ODD if random.random() < 0.06 else NAMES), random.random() < 0.2)


def message(random: Random) -> bytes:
    """Return a random message."""
    return random.choices(BUILDERS, WEIGHTS)[0](random)


def address_record(random: Random, owner: bytes) -> bytes:
    """Return an A or AAAA record."""
    packed = random.choice(PACKED)
    return record(owner, A if len(packed) == 4 else AAAA, packed, random.choice(TTLS))


def hints(random: Random) -> bytes:
    """Return parameters of a service binding, not always in their order."""
    packed = random.sample(PACKED, random.randint(0, 3))
    parameters = []
    for key, length in ((4, 4), (6, 16)):
        value = b"".join(one for one in packed if len(one) == length)
        if value:
            parameters.append(struct.pack("!HH", key, len(value)) + value)
    if random.random() < 0.05:
        parameters.reverse()
    return b"".join(parameters)


def any_record(random: Random, owner: bytes) -> bytes:
    """Return a record of any kind; its names may be compressed, even where servers never do."""
    target = QUESTION if random.random() < 0.1 else any_name(random)
    kind = random.choice((A, A, A, AAAA, CNAME, CNAME, MX, SRV, SVCB, HTTPS, HTTPS, PTR, TXT))
    if kind in (A, AAAA):
        return address_record(random, owner)
    start = {
        MX: struct.pack("!H", 10),
        SRV: struct.pack("!HHH", 0, 0, 443),
        SVCB: struct.pack("!H", random.choice((0, 1, 2))),
        HTTPS: struct.pack("!H", random.choice((0, 1, 2))),
        TXT: b"\x03",
    }.get(kind, b"")
    rdata = start + target + (hints(random) if kind in (SVCB, HTTPS) else b"")
    return record(owner, kind, rdata, random.choice(TTLS), random.choice((1,) * 30 + (3,)))


def chain(random: Random) -> bytes:
    """Return an answer from the question over aliases, perhaps in a circle, to some target, in any order."""
    names = [any_name(random) for _ in range(random.randint(1, 4))]
    ttl = random.choice(TTLS)
    aliases = [record(owner, CNAME, target, ttl) for owner, target in pairwise(names)]
    last = [any_record(random, names[-1]) for _ in range(random.choice((1, 1, 1, 2, 3)))]
    records = aliases + last
    if random.random() < 0.3:
        random.shuffle(records)
    return by_hand(asked(names[0]), *records, flags=random.choice((0x8180, 0x8180, 0x8583, 0x8380)))


def answer(random: Random) -> bytes:
    """Return records about any names, the question among them."""
    owners = (random.choice((QUESTION, any_name(random))) for _ in range(random.randint(1, 6)))
    return by_hand(asked(any_name(random)), *(any_record(random, owner) for owner in owners))


def many(random: Random) -> bytes:
    """Return an answer with more records than others, so that its owner meets its bound."""
    owner = any_name(random)
    return by_hand(asked(owner), *(any_record(random, owner) for _ in range(random.randint(5, 12))))


def pointer(random: Random) -> bytes:
    """Return the answer to a reverse question, sometimes through aliases."""
    names = [name_wire(random.choice(REVERSE), False) for _ in range(random.randint(1, 3))]
    records = [record(owner, CNAME, target, random.choice(TTLS)) for owner, target in pairwise(names)]
    records += [
        record(random.choice(names), PTR, any_name(random), random.choice(TTLS)) for _ in range(random.randint(1, 3))
    ]
    return by_hand(asked(names[0], PTR), *records)


def query(random: Random) -> bytes:
    """Return a query, or a message with several questions."""
    if random.random() < 0.5:
        return by_hand(asked(any_name(random)), flags=0x0100)
    flags, counts = random.choice(((0x0100, ""), (0xA800, ""), (0x8180, "2 1 0"), (0x8180, "0 1 0"), (0x8180, "1 9 0")))
    return by_hand(asked(any_name(random)), any_record(random, QUESTION), flags=flags, counts=counts)


def damaged(random: Random) -> bytes:
    """Return a good message that is cut short or has a few wrong bytes."""
    payload = bytearray(random.choice((chain, answer, many, pointer))(random))
    if random.random() < 0.4:
        return bytes(payload[: random.randint(0, len(payload))])
    for _ in range(random.randint(1, 3)):
        payload[random.randrange(len(payload))] = random.choice((0, 1, 12, 63, 0xC0, 0xFF, random.randrange(256)))
    return bytes(payload)


def looped(random: Random) -> bytes:
    """Return a message whose names point into themselves, forwards, or nowhere."""
    question = asked(random.choice((any_name(random), random.choice(LOOPS))))
    owners = (random.choice((QUESTION, *LOOPS)) for _ in range(3))
    records = [record(owner, CNAME, random.choice((*LOOPS, any_name(random)))) for owner in owners]
    return by_hand(question, address_record(random, QUESTION), *records)


BUILDERS: tuple[Callable[[Random], bytes], ...] = (chain, answer, many, pointer, query, damaged, looped)
WEIGHTS = (10, 5, 2, 3, 1, 2, 1)


@st.composite
def mutants(draw) -> bytes:
    """Return a message about a few names with some wrong bytes, sometimes cut short."""
    payload = bytearray(message(Random(draw(st.integers(0, 10**6)))))
    telling = st.sampled_from([0, 1, 5, 12, 15, 28, 0x40, 0x80, 0xC0, 0xFF])
    for place, byte in draw(st.lists(st.tuples(st.floats(0, 0.999), telling), max_size=4)):
        payload[int(place * len(payload))] = byte
    return bytes(payload[: len(payload) - draw(st.sampled_from([0, 0, 0, 1, 5]))])
