"""The life of relations, and lookups in the past.

Tests of dnstrail.image.image, dnstrail.image.view.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dns_builders import response_to, t
from builders.interpreted import INTERPRETED
from dnstrail.image import Bounds, Circumstances, Image

DAY = 86400


def fed(
    *messages: tuple[float, bytes], grace: float = 0.0, history: float = 300.0, size: int = 5000, live: bool = False
) -> Image:
    """Return an image after some messages, with stamps in seconds after T."""
    image = Image(Bounds(grace=grace, history=history, size=size))
    for stamp, payload in messages:
        image.feed(t(stamp), payload, Circumstances(live=live))
    return image


def a(ttl: int, name: str = "a.com", address: str = "1.1.1.1") -> bytes:
    """Return the answer to a question about a name: one address."""
    return response_to(name, f"{name} A {address}", ttl=ttl)


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
    for found in (image.get(key, now=t(age)), image.get(key, at=t(age))):
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
    """A second answer after one with TTL 10, grace 5; and when the relation is live, in seconds after T."""

    says: str
    stamp: float
    ttl: int
    live: list[tuple[float, float]]


SECOND = [
    Second("within the life", stamp=9, ttl=10, live=[(0, 24)]),
    Second("within the grace", stamp=14.5, ttl=10, live=[(0, 29.5)]),
    Second("at the end", stamp=15, ttl=10, live=[(0, 30)]),
    Second("after the end", stamp=100, ttl=10, live=[(0, 15), (100, 115)]),
    Second("a shorter TTL", stamp=2, ttl=1, live=[(0, 15)]),
    Second("TTL 0", stamp=2, ttl=0, live=[(0, 15)]),
    Second("TTL 0 within the grace", stamp=12, ttl=0, live=[(0, 17)]),
    Second("at the same instant", stamp=0, ttl=20, live=[(0, 25)]),
    Second("a late packet", stamp=-5, ttl=10, live=[(0, 15)]),
    Second("a late packet with a long life", stamp=-5, ttl=100, live=[(0, 100)]),
    Second("a late packet from before the life", stamp=-1000, ttl=10, live=[(0, 15)]),
]


@pytest.mark.parametrize("second", SECOND, ids=lambda second: second.says)
@pytest.mark.parametrize("address", ["1.1.1.1", "2.2.2.2"], ids=["the same answer", "another answer"])
def test_each_answer_gives_a_life_of_its_own(second: Second, address: str) -> None:
    """A relation is live by each answer for its own TTL; no answer prolongs or shortens the life by another."""
    other = [] if address == "1.1.1.1" else [f"a.com A {address}"]
    again = response_to("a.com", "a.com A 1.1.1.1", *other, ttl=second.ttl)
    image = fed((0, a(10)), (second.stamp, again), grace=5)
    for start, end in second.live:
        assert image.get("1.1.1.1", at=t(start)) is not None
        assert image.get("1.1.1.1", at=t(start) - 1) is None
        assert image.get("1.1.1.1", at=t(end) - 1) is not None
        assert image.get("1.1.1.1", at=t(end)) is None
    assert image.get("1.1.1.1", now=t(second.live[-1][1]) - 1) is not None
    assert image.get("1.1.1.1", now=t(second.live[-1][1])) is None


def test_a_life_belongs_to_the_relation() -> None:
    """Two names with one address, and two addresses of one name, end independently."""
    image = fed((0, a(10)), (0, a(100, "b.com")), (0, a(100, "a.com", "2.2.2.2")))
    assert image.get("1.1.1.1", now=t(10)).dns_queries == ["b.com"]
    assert image.get("a.com", now=t(10)).ip_addresses == ["2.2.2.2"]


def test_the_state_belongs_to_the_whole_result() -> None:
    """A result is live if it would contain an address without grace, whatever else is in grace."""
    chain = response_to("a.com", "a.com CNAME b.com ttl=10", "b.com A 1.1.1.1 ttl=100")
    image = fed((0, chain), grace=60)
    states = {key: image.get(key, now=t(10)).state for key in ("a.com", "b.com", "1.1.1.1")}
    assert states == {"a.com": "grace", "b.com": "live", "1.1.1.1": "live"}
    assert image.get("1.1.1.1", now=t(10)).dns_queries == ["a.com", "b.com"]


def test_a_pointer_has_its_grace() -> None:
    """A PTR relation is live, then in grace, then gone, like any other relation."""
    image = fed((0, response_to("4.3.2.1.in-addr.arpa PTR", "4.3.2.1.in-addr.arpa PTR h.com", ttl=10)), grace=5)
    for key in ("1.2.3.4", "h.com"):
        states = [image.get(key, now=t(age)) for age in (9, 10, 15)]
        assert [found and found.state for found in states] == ["live", "grace", None]


def test_later_relations_are_unknown_in_the_past() -> None:
    """A lookup with `at` does not find a relation that was first seen later."""
    image = fed((0, a(100)), (50, a(100, "a.com", "2.2.2.2")))
    assert image.get("a.com", at=t(49.9)).ip_addresses == ["1.1.1.1"]
    assert image.get("a.com", at=t(50)).ip_addresses == ["2.2.2.2", "1.1.1.1"]
    assert image.get("a.com", at=t(-0.1)) is None
    assert image.get("2.2.2.2", at=t()) is None


def test_later_questions_are_unknown_in_the_past() -> None:
    """The root of a lookup with `at` is a question that had been asked by then."""
    by_w = response_to("w.com", "w.com CNAME c.net", "c.net A 1.1.1.1")
    image = fed((0, by_w), (10, a(300, "c.net")))
    assert [image.get("c.net", at=t(at)).dns_root for at in (5, 10)] == ["w.com", "c.net"]
    assert image.get("1.1.1.1", at=t(5)).dns_root == "w.com"


def test_without_at_everything_received_counts() -> None:
    """A lookup with an earlier `now` uses everything received since; it tests only expiry."""
    image = fed((0, a(100)), (50, a(100, "b.com", "2.2.2.2")))
    assert image.get("b.com", now=t()) is not None
    assert image.get("b.com", at=t()) is None


def test_expired_relations_are_held_for_the_history() -> None:
    """An expired relation is found with `at` until it is swept, `history` seconds after its end."""
    image = fed((0, a(10)), history=300, live=True)
    for now, kept in ((10, True), (309.9, True), (310, False)):
        image.advance(t(now))
        image.sweep(100)
        assert (image.get("a.com", at=t(5)) is not None) is kept
        assert image.remembers(t(5)) is kept
    assert (image.store.places.relations, len(image)) == (0, 0)


def test_nothing_of_a_file_is_removed_by_time() -> None:
    """The past of a file is found however long ago it ended."""
    image = fed((0, a(10)), (10**6, a(10, "b.com", "2.2.2.2")), history=0)
    image.sweep(100)
    assert image.get("a.com", at=t(5)) is not None
    assert image.forgotten is None


REMEMBERED = {
    "nothing was forgotten": ([(0, a(10))], None),
    "swept": ([(0, a(10)), (1000, a(10, "b.com", "2.2.2.2"))], 10),
    "two lives": ([(0, a(10)), (50, a(10))], None),
    "evicted": ([(0, a(10)), (1, a(10, "b.com", "2.2.2.2")), (2, a(10, "c.com", "3.3.3.3"))], 10),
    "a shared relation survives": ([(0, a(10)), (1, a(20, "b.com")), (2, a(30, "c.com"))], 10),
}


@pytest.mark.parametrize(("messages", "forgotten"), REMEMBERED.values(), ids=REMEMBERED)
def test_the_past_is_complete_from_the_last_eviction(
    messages: list[tuple[float, bytes]], forgotten: float | None
) -> None:
    """The past is complete from the latest end of anything that was swept or evicted."""
    image = fed(*messages, size=2, live=True)
    if forgotten is None:
        assert image.forgotten is None
    else:
        assert (image.remembers(t(forgotten)), image.remembers(t(forgotten - 0.001))) == (True, False)


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


@INTERPRETED
@given(STEPS, st.sampled_from([0.0, 7.0, 60.0]))
def test_sweeping_is_never_visible(steps: list, grace: float) -> None:
    """An image that sweeps after each message answers every lookup within its history like an image that does not."""
    bounds = Bounds(size=10**6, grace=grace, history=300.0)
    swept, left = Image(bounds), Image(bounds)
    left.store.sweep = lambda now, steps, *, live: None  # nobody sweeps it
    clock = 0.0
    for ahead, (question, records), ttl in steps:
        clock += max(ahead, 0.0)
        payload = response_to(question, *(record.format(ttl) for record in records))
        for image in (swept, left):
            image.feed(t(clock + min(ahead, 0.0)), payload, Circumstances(live=True))
        swept.sweep(10**6)
        for key in KEYS:
            assert swept.get(key) == left.get(key), key
            assert swept.trails(key) == left.trails(key), key
            for at in (t(clock), t(clock - 50), t(clock - 299)):
                if swept.remembers(at):
                    assert swept.get(key, at=at) == left.get(key, at=at), (key, at)
