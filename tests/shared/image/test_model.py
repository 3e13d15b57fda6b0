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
from msgspec.structs import replace

from builders.dns_builders import asked, by_hand, response_to, wire
from builders.traffic import KEYS, NAMES, ODD, REVERSE
from dnstrail.captured import Flow, Process
from dnstrail.image import Bounds
from model.consistent import assert_consistent
from model.conversations import AT_ITS_SERVER, CLIENT, ENDPOINTS, LOSSES, Endpoint, conversation
from model.episodes import AGO, LONG, REACHED, random_episode, run
from model.image_vs_model import UNBOUND, ImageAndModel
from model.instants import SECOND, START, ns
from model.naive_admission import SHARE, SIGHTINGS

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
graces = st.sampled_from([0.0, 5.0, 60.0])
bounded = st.builds(
    Bounds,
    size=few,
    grace=graces,
    history=st.sampled_from([300.0, LONG]),
    owned=st.sampled_from([1, 2, 3]),
    relations=st.sampled_from([6, 12, UNBOUND]),
)
unbounded = st.builds(
    Bounds,
    size=st.just(UNBOUND),
    grace=graces,
    history=st.sampled_from([0.0, 300.0, LONG]),
    owned=st.just(UNBOUND),
    relations=st.just(UNBOUND),
)
askers = st.none() | st.sampled_from([1, 1, 2]).map(lambda cgroup: Process(pid=1, cgroup_id=cgroup))


class ImageMachine(RuleBasedStateMachine):
    """Messages, losses, lookups of the present and the past, and sweeps; ImageAndModel raises at a difference."""

    @initialize(bounds=bounded | unbounded, live=st.booleans(), unmatched=st.sampled_from(["auto", "accept", "reject"]))
    def start(self, bounds: Bounds, live: bool, unmatched: str) -> None:
        self.pair = ImageAndModel(bounds, live=live, unmatched=unmatched)
        self.clock = START

    @rule(
        ahead=st.sampled_from([0.0, 0.0, 1.0, 4.5, 5.0, 30.0, 70.0, 400.0]),
        late=st.sampled_from([0.0, 0.0, 1.0, 30.0, 200.0]),
        payload=payloads,
        process=askers,
        again=st.sampled_from([1, 1, 1, 18]),
    )
    def feed(self, ahead: float, late: float, payload: bytes, process: Process | None, again: int) -> None:
        for _ in range(again):
            self.clock += ns(ahead)
            stamp = self.clock - (ns(late) if self.pair.bounds.history else 0)
            self.pair.feed(stamp, payload, process=process, asked=True)

    @precondition(lambda machine: machine.pair.bounds.owned == UNBOUND)
    @rule(payload=payloads, random=st.randoms(use_true_random=False))
    def talk(self, payload: bytes, random: Random) -> None:
        self.clock += SECOND // 2 + random.randint(1, ns(0.001))
        for said in conversation(random, payload):
            self.clock += max(0, said.after)
            stamp = self.clock + min(0, said.after)
            self.pair.feed(stamp, said.payload, flow=said.flow, process=said.process, host=said.host)

    @rule(loss=st.sampled_from(LOSSES))
    def lose(self, loss: tuple[str, int]) -> None:
        self.pair.gap(self.clock, *loss)

    @rule(key=st.sampled_from(KEYS), later=st.none() | st.sampled_from(AGO))
    def get(self, key: str, later: int | None) -> None:
        self.pair.get(key, None if later is None else self.clock + later)

    @rule(key=st.sampled_from(KEYS), ago=st.sampled_from(AGO))
    def get_at(self, key: str, ago: int) -> None:
        self.pair.get_at(key, self.clock - ago)

    @rule(keys=st.lists(st.sampled_from(KEYS), max_size=6).map(tuple))
    def get_many(self, keys: tuple[str, ...]) -> None:
        self.pair.get_many(keys)

    @rule()
    def sweep(self) -> None:
        self.pair.sweep()

    @invariant()
    def all_keys_are_answered_alike(self) -> None:
        if hasattr(self, "pair"):
            assert_consistent(self.pair.image, self.pair.bounds)
            for key in KEYS:
                self.pair.get_at(key, self.clock)

    def teardown(self) -> None:
        for key in KEYS if hasattr(self, "pair") else ():
            self.pair.get(key)


class TestImageMachine(ImageMachine.TestCase):
    """After any messages and lookups in any order, the image answers like the naive model."""

    settings = settings(max_examples=settings().max_examples // 4, stateful_step_count=20, report_multiple_bugs=False)


def test_a_random_run_meets_every_bound_and_every_kind_of_lookup() -> None:
    """Two thousand random messages, hostile ones included, show no difference and meet every bound and lookup."""
    counts: Counter[str] = Counter()
    for number in range(30):
        counts += run(random_episode(Random(number), 80))
    assert set(REACHED) <= counts.keys(), set(REACHED) - counts.keys()
    assert counts["messages"] > 1900


@pytest.mark.parametrize("queries", [SIGHTINGS, SIGHTINGS + 1])
def test_sightings_of_one_query(queries: int) -> None:
    """Image and model hold equally many sightings of one query, and doubt the same answers beyond them."""
    pair = started(CLIENT.query)
    for place in range(queries):
        feed(pair, CLIENT.query, 40 + place / 5, by_hand(asked(wire("a")), flags=0x0100))
    for place in range(queries + 1):
        feed(pair, CLIENT.response, 55 + place / 5, response_to("a", f"a A 10.0.0.{place}"))
    assert pair.counts["matched"] == SIGHTINGS
    assert pair.counts["doubted"] == (2 if queries > SIGHTINGS else 0)


@pytest.mark.parametrize("end", [CLIENT, AT_ITS_SERVER], ids=["sent", "received"])
def test_share_of_a_party(end: Endpoint) -> None:
    """Beyond its share of waiting queries image and model evict the oldest, and doubt the same answers."""
    pair = started(end.query)
    for place in range(SHARE + 2):
        query = by_hand(asked(wire("a")), flags=0x0100)
        feed(pair, end.query, 40 + place / 1000, place.to_bytes(2, "big") + query[2:])
    for place in range(4):
        feed(pair, end.response, 42 + place / 5, place.to_bytes(2, "big") + response_to("a", f"a A 10.0.0.{place}")[2:])
    for response in (CLIENT.response, AT_ITS_SERVER.response):
        feed(pair, response, 43, response_to("b", f"b A 10.0.1.{response.socket}"))
    assert pair.counts["matched"] == 2
    assert pair.counts["doubted"] == 2 + 1  # the evicted queries, and an answer on the same side


def started(flow: Flow) -> ImageAndModel:
    """Return both sides, whose doubt after the start is over at 40 seconds."""
    pair = ImageAndModel(Bounds(size=UNBOUND, owned=UNBOUND, relations=UNBOUND), live=True, unmatched="auto")
    feed(pair, flow, 0, b"")
    return pair


def feed(pair: ImageAndModel, flow: Flow, seconds: float, payload: bytes) -> None:
    """Feed one packet of the process behind a flow."""
    process = next((end.process for end in ENDPOINTS if flow in (end.query, end.response)), None)
    pair.feed(START + ns(seconds), payload, flow=flow, process=process)


@pytest.mark.parametrize("bounds", [Bounds(nodes=5), Bounds(walked=5)], ids=["nodes", "walked"])
def test_a_result_beyond_its_bound(bounds: Bounds) -> None:
    """A result that exceeds a bound is truncated, and everything in it is in the whole result."""
    pair = ImageAndModel(replace(bounds, size=UNBOUND, owned=UNBOUND, relations=UNBOUND), live=False)
    for name, last in ((name, last) for last in range(9) for name in "abc"):
        pair.feed(START, response_to(name, f"{name} CNAME x", f"x A 1.1.1.{last}"))
    for key in ("a", "x"):
        found, whole = pair.image.get(key), pair.model.get(key)
        assert found is not None
        assert whole is not None
        assert found.truncated, key
        assert set(found.ip_addresses) <= set(whole["ip_addresses"])
        assert set(found.dns_queries) <= set(whole["dns_queries"])
        assert len(found.ip_addresses) + len(found.dns_queries) <= 5 + 2  # with the key and the root
