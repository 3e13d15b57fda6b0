"""The image against the naive model: any messages in any order give the same result for every key."""

from __future__ import annotations

import struct
from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from builders.dns_builders import T, by_hand, response_to, wire
from builders.traffic import KEYS, NAMES, ODD, REVERSE
from dnstrail.image import Bounds
from model.consistent import assert_consistent
from model.episodes import AGO, LONG, random_episode, run
from model.image_vs_model import EVICTIONS, UNBOUND, ImageAndModel

owners = st.sampled_from([*NAMES * 3, *ODD])
targets = st.sampled_from([*NAMES * 3, *ODD])
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
ttls = st.sampled_from([0, 1, 5, 30, 30, 300, 3600, 604801, 2**31, 2**32 - 1])
records = st.builds("{} {} ttl={}".format, owners, values, ttls)
answers = st.builds(
    lambda question, lines: response_to(question, *lines), owners, st.lists(records, min_size=1, max_size=6)
)
# Chains that begin at the question: records at random are mostly foreign.
chains = st.builds(
    lambda names, ttl, last: response_to(
        names[0],
        *(f"{owner} CNAME {target} ttl={ttl}" for owner, target in pairwise(names)),
        f"{names[-1]} {last} ttl=30",
    ),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
    ttls,
    values,
)
pointers = st.builds(
    lambda question, lines: response_to(f"{question} PTR", *lines),
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
pytestmark = pytest.mark.timeout(300)  # hypothesis would take a timeout for a failure, and shrink it

few = st.sampled_from([2, 3, 4, UNBOUND])
bounded = st.builds(
    Bounds,
    size=few,
    grace=st.sampled_from([0.0, 5.0, 60.0]),
    history=st.sampled_from([300.0, LONG]),
    owned=few,
    relations=st.sampled_from([3, 6, 12, UNBOUND]),
    sightings=st.sampled_from([4, 131_072]),
)
swept_at_once = st.builds(
    Bounds, size=st.just(UNBOUND), history=st.just(0.0), owned=st.just(UNBOUND), relations=st.just(UNBOUND)
)


class ImageMachine(RuleBasedStateMachine):
    """Messages, lookups of the present and the past, and sweeps; ImageAndModel raises at the first difference."""

    @initialize(bounds=bounded | swept_at_once, live=st.booleans())
    def start(self, bounds: Bounds, live: bool) -> None:
        self.pair = ImageAndModel(bounds, live=live)
        self.clock = T

    def covered(self) -> bool:
        return not self.pair.beyond_the_model()

    @precondition(covered)
    @rule(
        ahead=st.sampled_from([0.0, 0.0, 1.0, 4.5, 5.0, 30.0, 70.0, 400.0]),
        late=st.sampled_from([0.0, 0.0, 1.0, 30.0, 200.0]),
        payload=payloads,
    )
    def feed(self, ahead: float, late: float, payload: bytes) -> None:
        self.clock += ahead
        self.pair.feed(self.clock - (late if self.pair.bounds.history else 0.0), payload)

    @precondition(covered)
    @rule(key=st.sampled_from(KEYS), later=st.none() | st.sampled_from(AGO))
    def get(self, key: str, later: float | None) -> None:
        self.pair.get(key, None if later is None else self.clock + later)

    @precondition(covered)
    @rule(key=st.sampled_from(KEYS), ago=st.sampled_from(AGO))
    def get_at(self, key: str, ago: float) -> None:
        self.pair.get_at(key, self.clock - ago)

    @precondition(covered)
    @rule()
    def sweep(self) -> None:
        self.pair.sweep()

    @invariant()
    def all_keys_are_answered_alike(self) -> None:
        if self.covered():
            assert_consistent(self.pair.image)
            for key in KEYS:
                self.pair.get_at(key, self.clock)

    def teardown(self) -> None:
        for key in KEYS if hasattr(self, "pair") and self.covered() else ():
            self.pair.get(key)


class TestImageMachine(ImageMachine.TestCase):
    """After any messages and lookups in any order, the image answers like the naive model."""

    settings = settings(max_examples=settings().max_examples, stateful_step_count=30, report_multiple_bugs=False)


def test_a_random_run_meets_every_bound_and_every_kind_of_lookup() -> None:
    """Two thousand random messages, hostile ones included, show no difference and meet every bound and lookup."""
    counts: Counter[str] = Counter()
    for number in range(20):
        counts += run(random_episode(Random(number), 100))
    assert {"gets", "exact", "inexact", *EVICTIONS} <= counts.keys()
    assert counts["messages"] > 1900
