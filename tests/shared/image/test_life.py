"""The life of relations, and lookups in the past."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dns_builders import T, response_to
from dnstrail.image import Bounds, Image
from dnstrail.image.relation import Relation
from model.consistent import assert_consistent

DAY = 86400


def fed(*messages: tuple[float, bytes], grace: float = 0.0, history: float = 300.0, size: int = 5000) -> Image:
    """Return an image after some messages, with stamps in seconds after T."""
    image = Image(Bounds(grace=grace, history=history, size=size))
    for stamp, payload in messages:
        image.feed(T + stamp, payload)
    return image


def a(ttl: int, name: str = "a.com", address: str = "1.1.1.1") -> bytes:
    """Return the answer to a question about a name: one address."""
    return response_to(name, f"{name} A {address}", ttl=ttl)


def via(name: str, ttl: int) -> bytes:
    """Return the answer to a question about a name: an alias that ends at once, and the address of its target."""
    return response_to(name, f"{name} CNAME c.net ttl=0", f"c.net A 1.1.1.1 ttl={ttl}")


def only(image: Image) -> Relation:
    """Return the only relation of an image."""
    [owned] = image.store.forward.out.values()
    [relation] = owned.values()
    return relation


# TTL, grace, seconds since the sighting, and the state of a lookup at that time (None: not found).
LIVES = [
    (10, 0, 0, "live"),
    (10, 0, 9.999, "live"),
    (10, 0, 10, None),
    (10, 60, 9.999, "live"),
    (10, 60, 10, "grace"),
    (10, 60, 69.999, "grace"),
    (10, 60, 70, None),
    (0, 0, 0, None),
    (0, 60, 0, "grace"),
    (0, 60, 59.999, "grace"),
    (0, 60, 60, None),
    (7 * DAY, 0, 7 * DAY - 1, "live"),
    (7 * DAY + 1, 0, 7 * DAY, None),
    (2**31 - 1, 60, 7 * DAY + 59, "grace"),
    (2**31 - 1, 60, 7 * DAY + 60, None),
]


@pytest.mark.parametrize(("ttl", "grace", "age", "state"), LIVES)
@pytest.mark.parametrize("key", ["a.com", "1.1.1.1"])
def test_a_relation_is_live_then_in_grace_then_gone(
    ttl: int, grace: float, age: float, state: str | None, key: str
) -> None:
    """A relation is live before its sighting plus TTL, in grace for the seconds after that, and then not found."""
    image = fed((0, a(ttl)), grace=grace)
    for found in (image.get(key, now=T + age), image.get(key, at=T + age)):
        assert (found and found.state) == state


def test_now_is_the_greatest_stamp_unless_given() -> None:
    """Without a time, a lookup is as of the greatest stamp so far, which a late packet does not turn back."""
    image = fed((0, a(10)), (10, a(10, "b.com", "2.2.2.2")), (1, a(10, "c.com", "3.3.3.3")))
    assert [image.get(key) is None for key in ("a.com", "b.com", "c.com")] == [True, False, False]


def test_every_message_moves_the_clock() -> None:
    """Every message moves the clock of the stream, even a damaged one or a query."""
    for payload in (b"", b"\x00" * 12, response_to("x.com")):
        assert fed((0, a(10)), (10, payload)).get("a.com") is None


@dataclass(frozen=True)
class Second:
    """A second sighting of a relation with TTL 10 and grace 5, and the expected life; times are seconds after T."""

    says: str
    stamp: float
    ttl: int
    first: float
    last: float
    count: int
    ends: float


SECOND = [
    Second("within the life", stamp=9, ttl=10, first=0, last=9, count=2, ends=19),
    Second("within the grace", stamp=14.5, ttl=10, first=0, last=14.5, count=2, ends=24.5),
    Second("at the end", stamp=15, ttl=10, first=15, last=15, count=1, ends=25),
    Second("after the end", stamp=100, ttl=10, first=100, last=100, count=1, ends=110),
    Second("a shorter TTL", stamp=2, ttl=1, first=0, last=2, count=2, ends=10),
    Second("TTL 0", stamp=2, ttl=0, first=0, last=2, count=2, ends=10),
    Second("TTL 0 within the grace", stamp=12, ttl=0, first=0, last=12, count=2, ends=12),
    Second("at the same instant", stamp=0, ttl=20, first=0, last=0, count=2, ends=20),
    Second("a late packet", stamp=-5, ttl=10, first=-5, last=0, count=2, ends=10),
    Second("a late packet with a long life", stamp=-5, ttl=100, first=-5, last=0, count=2, ends=95),
    Second("a late packet from before the life", stamp=-1000, ttl=10, first=-1000, last=0, count=2, ends=10),
]


@pytest.mark.parametrize("second", SECOND, ids=lambda second: second.says)
def test_a_second_sighting(second: Second) -> None:
    """A sighting before the end extends a life and never shortens it; one at the end or later starts another life."""
    relation = only(fed((0, a(10)), (second.stamp, a(second.ttl)), grace=5))
    assert (relation.first_seen - T, relation.last_seen - T) == (second.first, second.last)
    assert (relation.count, relation.ends - T) == (second.count, second.ends)


def test_a_new_life_has_roots_of_its_own() -> None:
    """A new life forgets the questions of the old life; one life keeps all its questions."""
    by_w = response_to("w.com", "w.com CNAME c.net ttl=300", "c.net A 1.1.1.1 ttl=10")
    same = fed((0, by_w), (9, a(10, "c.net")))
    other = fed((0, by_w), (10, a(10, "c.net")))
    roots = [next(iter(image.store.forward.out["c.net"].values())).roots for image in (same, other)]
    assert [sorted(names) for names in roots] == [["c.net", "w.com"], ["c.net"]]
    for image in (same, other):
        assert_consistent(image)


def test_a_life_belongs_to_the_relation() -> None:
    """Two names with one address, and two addresses of one name, end independently."""
    image = fed((0, a(10)), (0, a(100, "b.com")), (0, a(100, "a.com", "2.2.2.2")))
    assert image.get("1.1.1.1", now=T + 10).dns_queries == ["b.com"]
    assert image.get("a.com", now=T + 10).ip_addresses == ["2.2.2.2"]


def test_the_state_belongs_to_the_whole_result() -> None:
    """A result is live if it would contain an address without grace, whatever else is in grace."""
    chain = response_to("a.com", "a.com CNAME b.com ttl=10", "b.com A 1.1.1.1 ttl=100")
    image = fed((0, chain), grace=60)
    states = {key: image.get(key, now=T + 10).state for key in ("a.com", "b.com", "1.1.1.1")}
    assert states == {"a.com": "grace", "b.com": "live", "1.1.1.1": "live"}
    assert image.get("1.1.1.1", now=T + 10).dns_queries == ["a.com", "b.com"]


def test_a_pointer_has_its_grace() -> None:
    """A PTR relation is live, then in grace, then gone, like any other relation."""
    image = fed((0, response_to("4.3.2.1.in-addr.arpa PTR", "4.3.2.1.in-addr.arpa PTR h.com", ttl=10)), grace=5)
    for key in ("1.2.3.4", "h.com"):
        states = [image.get(key, now=T + age) for age in (9, 10, 15)]
        assert [found and found.state for found in states] == ["live", "grace", None]


def test_later_relations_are_unknown_in_the_past() -> None:
    """A lookup with `at` does not find a relation that was first seen later."""
    image = fed((0, a(100)), (50, a(100, "a.com", "2.2.2.2")))
    assert image.get("a.com", at=T + 49.9).ip_addresses == ["1.1.1.1"]
    assert image.get("a.com", at=T + 50).ip_addresses == ["2.2.2.2", "1.1.1.1"]
    assert image.get("a.com", at=T - 0.1) is None
    assert image.get("2.2.2.2", at=T) is None


def test_later_questions_are_unknown_in_the_past() -> None:
    """The root of a lookup with `at` is a question that had been asked by then."""
    by_w = response_to("w.com", "w.com CNAME c.net", "c.net A 1.1.1.1")
    image = fed((0, by_w), (10, a(300, "c.net")))
    assert [image.get("c.net", at=T + at).dns_root for at in (5, 10)] == ["w.com", "c.net"]
    assert image.get("1.1.1.1", at=T + 5).dns_root == "w.com"


def test_without_at_everything_received_counts() -> None:
    """A lookup with an earlier `now` uses everything received since; it tests only expiry."""
    image = fed((0, a(100)), (50, a(100, "b.com", "2.2.2.2")))
    assert image.get("b.com", now=T) is not None
    assert image.get("b.com", at=T) is None


def test_expired_relations_are_held_for_the_history() -> None:
    """An expired relation is found with `at` until it is swept, `history` seconds after its end."""
    image = fed((0, a(10)), history=300)
    for now, kept in ((10, True), (309.9, True), (310, False)):
        image.sweep(T + now, 100)
        assert (image.get("a.com", at=T + 5) is not None) is kept
        assert image.remembers(T + 5) is kept
    assert (image.store.relations, len(image)) == (0, 0)


REMEMBERED = {
    "nothing was forgotten": ([(0, a(10))], None),
    "swept": ([(0, a(10)), (1000, a(10, "b.com", "2.2.2.2"))], 10),
    "a new life": ([(0, a(10)), (50, a(10))], 10),
    "evicted": ([(0, a(10)), (1, a(10, "b.com", "2.2.2.2")), (2, a(10, "c.com", "3.3.3.3"))], 10),
    "a shared address survives": ([(0, a(10)), (1, a(20, "b.com")), (2, a(30, "c.com"))], 10),
    "a shared relation survives": ([(0, via("w.com", 40)), (1, a(99, "c.net")), (2, a(5))], 40),
    "a shared relation survives, stated again": (
        [(0, via("w.com", 40)), (1, via("w.com", 10)), (2, a(99, "c.net")), (3, a(5))],
        40,
    ),
}


@pytest.mark.parametrize(("messages", "forgotten"), REMEMBERED.values(), ids=REMEMBERED)
def test_the_past_is_complete_from_the_last_eviction(
    messages: list[tuple[float, bytes]], forgotten: float | None
) -> None:
    """The past is complete from the latest end of anything that was swept, evicted or started anew."""
    image = fed(*messages, size=2)
    if forgotten is None:
        assert image.remembers(float("-inf"))
    else:
        assert (image.remembers(T + forgotten), image.remembers(T + forgotten - 0.001)) == (True, False)


def test_an_evicted_root_leaves_no_relation_in_the_past() -> None:
    """A relation that outlives the root of its first answer has no life from before its second answer."""
    image = fed((0, via("w.com", 40)), (0, response_to("b.com", "b.com CNAME c.net")), (20, a(99, "c.net")), size=2)
    assert image.counters["evicted_roots"] == 1
    found = image.get("b.com", at=T + 10)
    assert (found.dns_queries, found.ip_addresses, image.remembers(T + 10)) == (["b.com", "c.net"], [], False)
    assert image.get("1.1.1.1", at=T + 10) is None
    found = image.get("b.com", at=T + 40)
    assert (found.dns_root, found.ip_addresses, image.remembers(T + 40)) == ("b.com", ["1.1.1.1"], True)


def test_the_past_is_complete_from_the_end_of_a_root_that_is_one_too_many() -> None:
    """A relation that a late packet revived drops an ended root beyond `size`; its past is complete from then on."""
    revived = [(0, via("v.com", 10)), (0, via("w.com", 10)), (20, a(5, "z.com")), (5, via("x.com", 100))]
    image = fed(*revived, size=2)
    assert (image.get("1.1.1.1", at=T + 50).dns_root, image.remembers(T + 50)) == ("x.com", True)
    image.feed(T + 200, a(5, "z.com"))
    assert image.counters["evicted_roots"] == 0
    assert (image.remembers(T + 105), image.remembers(T + 104.9)) == (True, False)


KEYS = ["a.com", "b.com", "c.net", "d.org", "1.1.1.1", "1.1.1.2", "1.2.3.4"]
ANSWERS = [
    ("a.com", ["a.com A 1.1.1.1 ttl={}"]),
    ("a.com", ["a.com CNAME c.net ttl={}", "c.net A 1.1.1.1"]),
    ("b.com", ["b.com CNAME c.net", "c.net A 1.1.1.2 ttl={}"]),
    ("c.net", ["c.net A 1.1.1.1 ttl={}", "c.net MX d.org"]),
    ("d.org", ["d.org CNAME a.com ttl={}"]),
    ("4.3.2.1.in-addr.arpa PTR", ["4.3.2.1.in-addr.arpa PTR d.org ttl={}"]),
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 10.0, 200.0, 400.0, -5.0, -100.0]),
        st.sampled_from(ANSWERS),
        st.sampled_from([0, 5, 60, 300, 1000]),
    ),
    max_size=25,
)


@given(STEPS, st.sampled_from([0.0, 7.0, 60.0]))
def test_sweeping_is_never_visible(steps: list, grace: float) -> None:
    """An image that sweeps after each message answers every lookup within its history like an image that does not."""
    bounds = Bounds(size=10**6, grace=grace, history=300.0)
    swept, left = Image(bounds), Image(bounds)
    left.sweep = lambda now, steps: None  # nobody sweeps it
    clock = T
    for ahead, (question, records), ttl in steps:
        clock += max(ahead, 0.0)
        payload = response_to(question, *(record.format(ttl) for record in records))
        for image in (swept, left):
            image.feed(clock + min(ahead, 0.0), payload)
        swept.sweep(swept.latest, 10**6)
        assert_consistent(swept)
        for key in KEYS:
            assert swept.get(key) == left.get(key), key
            assert swept.trails(key) == left.trails(key), key
            for at in (clock, clock - 50, clock - 299):
                if swept.remembers(at):
                    assert swept.get(key, at=at) == left.get(key, at=at), (key, at)


def test_an_ended_root_starts_anew() -> None:
    """A question that is answered again after all its relations ended has only its new answer, swept or not."""
    bounds = Bounds(grace=0)
    swept, left = Image(bounds), Image(bounds)
    for image in (swept, left):
        for name in "abcdefgh":  # they all end at once, and are more than one message sweeps
            image.feed(T, a(10, name, "1.1.1.1"))
        image.feed(T + 20, a(10, "z", "2.2.2.2"))
    swept.sweep(swept.latest, 100)
    for image in (swept, left):
        image.feed(T + 20, a(10, "h", "1.1.1.1"))
        first = image.trails("1.1.1.1").trails[0]
        assert (first.dns_root, sum(asker.count for asker in first.asked)) == ("h", 1)
