"""The image against the naive model: any messages in any order, every key answered alike."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consistent import assert_consistent
from dnstrail.image import Bounds, Image
from dnstrail.image.lookup import Found
from naive import NaiveModel
from sequences_ordinary import T, by_hand, wire
from told import told

NAMES = ["a", "b", "c.a", "d.net", "e"]
ADDRESSES = ["1.1.1.1", "1.1.1.2", "2001:db8::1"]
REVERSE = ["1.1.1.1.in-addr.arpa", "2.1.1.1.in-addr.arpa", "1.in-addr.arpa"]
KEYS = [*NAMES, *ADDRESSES, *REVERSE, "zz", "E.", "::ffff:1.1.1.1"]
ODD = ["1.1.1.1", "1.1.1.1.in-addr.arpa", "."]  # names that relate nothing

owners = st.sampled_from(NAMES * 3 + ODD)
targets = st.sampled_from(NAMES * 3 + ODD)
hosts = st.sampled_from([*NAMES, "."])
hints = st.sampled_from(["", " ipv4hint=1.1.1.1", " ipv4hint=1.1.1.2,1.1.1.1", " alpn=h2 ipv6hint=2001:db8::1"])
values = st.one_of(
    st.sampled_from(["A 1.1.1.1", "A 1.1.1.2", "AAAA 2001:db8::1", "AAAA ::ffff:1.1.1.1"]),
    targets.map("CNAME {}".format),
    targets.map("MX {}".format),
    targets.map("SRV {}".format),
    targets.map("PTR {}".format),
    hosts.map("HTTPS 0 {}".format),
    st.builds("HTTPS 1 {}{}".format, hosts, hints),
    st.builds("SVCB 2 {}{}".format, hosts, hints),
)
ttls = st.sampled_from([0, 1, 5, 30, 30, 300, 604801])
records = st.builds("{} {} ttl={}".format, owners, values, ttls)
answers = st.builds(lambda question, lines: told(question, *lines), owners, st.lists(records, min_size=1, max_size=6))
# Each a chain from the question on, since records at random are mostly foreign.
chains = st.builds(
    lambda names, ttl, last: told(
        names[0],
        *(f"{owner} CNAME {target} ttl={ttl}" for owner, target in pairwise(names)),
        f"{names[-1]} {last} ttl=30",
    ),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
    ttls,
    values,
)
pointers = st.builds(
    lambda question, lines: told(f"{question} PTR", *lines),
    st.sampled_from(REVERSE),
    st.lists(
        st.builds(
            "{} {} {} ttl={}".format,
            st.sampled_from([*REVERSE, *NAMES]),
            st.sampled_from(["PTR", "PTR", "CNAME"]),
            targets,
            ttls,
        ),
        min_size=1,
        max_size=5,
    ),
)
damaged = st.builds(lambda payload, length: payload[: 12 + length], answers, st.integers(0, 120))
queries = st.sampled_from(NAMES).map(
    lambda name: by_hand(wire(name) + struct.pack("!HH", 1, 1), counts="1 0 0", flags=256)
)
payloads = st.one_of(answers, chains, chains, pointers, damaged, queries)
moves = st.sampled_from([0.0, 0.0, 1.0, 4.5, 5.0, 30.0, 70.0, 400.0, -1.0, -30.0, -200.0])


@settings(max_examples=6 * settings().max_examples)
@given(st.lists(st.tuples(moves, payloads), max_size=14), st.sampled_from([0.0, 5.0, 60.0]))
def test_every_key_is_answered_as_the_model_answers(steps: list[tuple[float, bytes]], grace: float) -> None:
    """After each message, all names and addresses give the lists, the root and the state of the naive model."""
    image, model = Image(Bounds(size=10**6, grace=grace, history=300.0)), NaiveModel(grace)
    clock = T
    for move, payload in steps:
        clock += max(move, 0.0)
        image.feed(clock + min(move, 0.0), payload)
        model.feed(clock + min(move, 0.0), payload)
        for key in KEYS:
            found = image.get(key)
            assert (found and told_by(found)) == model.get(key), key
    assert_consistent(image)


@given(
    st.lists(st.tuples(moves.map(abs), payloads), max_size=10), st.sampled_from([0.0, 5.0, 60.0]), st.integers(0, 90)
)
def test_later_is_answered_as_the_model_answers(steps: list[tuple[float, bytes]], grace: float, seconds: int) -> None:
    """At any time after the last message, all keys give the answers of the naive model for that time."""
    image, model = Image(Bounds(size=10**6, grace=grace)), NaiveModel(grace)
    clock = T
    for move, payload in steps:
        clock += move
        image.feed(clock, payload)
        model.feed(clock, payload)
    later = clock + seconds
    for key in KEYS:
        for found in (image.get(key, now=later), image.get(key, at=later)):
            assert (found and told_by(found)) == model.get(key, later), key


def told_by(found: Found) -> dict[str, Any]:
    """An answer as the model writes it, which knows no bounds."""
    assert found.truncated is False
    shown = found.fields
    return {field: shown[field] for field in ("ip_addresses", "dns_queries", "dns_root", "state")}
