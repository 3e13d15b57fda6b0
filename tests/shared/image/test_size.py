"""The size of the image."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dns_builders import T, response_to
from dnstrail.image import Bounds, Image
from model.consistent import assert_consistent

WEEK = 7 * 86400


class Fed:
    """An image, and a clock that advances by one second with each answer."""

    def __init__(self, size: int, *, grace: float = 0.0, history: float = 300.0, nodes: int = 4096) -> None:
        self.image = Image(Bounds(size=size, grace=grace, history=history, nodes=nodes))
        self._clock = count()

    def answer(self, *names: str, ttl: int = 3600) -> Fed:
        """Feed the answer to a question about each name: one address of its own."""
        for name in names:
            self.feed(name, f"{name} A {address(name)}", ttl=ttl)
        return self

    def feed(self, question: str, *records: str, ttl: int = 3600) -> Fed:
        """Feed the answer to a question."""
        self.image.feed(T + next(self._clock), response_to(question, *records, ttl=ttl))
        return self

    def known(self, *names: str) -> str:
        """Return the names that are found, without using their roots."""
        return " ".join(name for name in names if self.image.get(name, at=self.image.latest))


def address(name: str) -> str:
    """Return the address of a name of one letter."""
    return f"10.0.0.{ord(name)}"


def test_the_root_least_recently_answered_goes() -> None:
    """Beyond its size the image evicts the root with the oldest last answer."""
    fed = Fed(2).answer("a", "b", "a", "c")
    assert (fed.known("a", "b", "c"), len(fed.image)) == ("a c", 2)
    assert fed.image.counters["evicted_roots"] == 1


def test_an_evicted_root_takes_its_relations_along() -> None:
    """Relations that only an evicted root stated are found no longer, from either side."""
    fed = Fed(1).feed("a", "a CNAME x", "x MX y", "y A 1.1.1.1").answer("b")
    assert [fed.image.get(key) for key in ("a", "x", "y", "1.1.1.1")] == [None] * 4
    assert fed.image.store.relations == 1
    assert_consistent(fed.image)


LOOKUPS = {
    "get": (lambda image: image.get("a"), "a c"),
    "get by its address": (lambda image: image.get(address("a")), "a c"),
    "get in another spelling": (lambda image: image.get(" A. "), "a c"),
    "get as of now": (lambda image: image.get("a", now=image.latest), "a c"),
    "get in the past": (lambda image: image.get("a", at=image.latest), "b c"),
    "trails": (lambda image: image.trails("a"), "b c"),
    "get of something unknown": (lambda image: image.get("zz"), "b c"),
    "get when it has expired": (lambda image: image.get("a", now=T + WEEK), "b c"),
    "sweep": (lambda image: image.sweep(image.latest, 100), "b c"),
}


@pytest.mark.parametrize(("lookup", "kept"), LOOKUPS.values(), ids=LOOKUPS)
def test_a_lookup_touches_its_root(lookup, kept: str) -> None:
    """A lookup without `at` that finds something uses its root; nothing else does."""
    fed = Fed(2).answer("a", "b")
    lookup(fed.image)
    fed.answer("c")
    assert fed.known("a", "b", "c") == kept


def test_a_lookup_touches_its_root_alone() -> None:
    """A lookup uses only the root that it returns, among all the roots of a relation."""
    fed = Fed(2).feed("a", "a CNAME s", "s A 1.1.1.1").feed("b", "b CNAME s", "s A 1.1.1.1")
    assert fed.image.get("a").dns_root == "a"
    fed.answer("c")
    assert fed.known("a", "b", "c") == "a c"


def test_a_lookup_touches_the_root_of_an_alias() -> None:
    """A lookup of a name that nobody asked uses the question whose answer contains it."""
    fed = Fed(2).feed("a", "a CNAME s", "s A 1.1.1.1").answer("b")
    assert fed.image.get("s").dns_root == "a"
    fed.answer("c")
    assert fed.known("a", "s", "c") == "a s c"


def test_a_pointer_holds_a_place_of_its_address() -> None:
    """The address of a reverse question is a root, and is evicted like any other."""
    fed = Fed(1).feed("4.3.2.1.in-addr.arpa PTR", "4.3.2.1.in-addr.arpa PTR h")
    assert (len(fed.image), fed.known("1.2.3.4", "h")) == (1, "1.2.3.4 h")
    fed.answer("b")
    assert (len(fed.image), fed.known("1.2.3.4", "h", "b")) == (1, "b")


def test_a_shared_relation_survives_one_of_its_roots() -> None:
    """A relation is removed with the last of its roots, not with the first."""
    fed = Fed(2).feed("a", "a CNAME s", "s A 1.1.1.1").feed("b", "b CNAME s", "s A 1.1.1.1").answer("c")
    assert fed.known("a", "b", "s", "1.1.1.1") == "b s 1.1.1.1"
    assert fed.image.get("1.1.1.1").dns_queries == ["b", "s"]
    assert_consistent(fed.image)
    fed.answer("d", "e")
    assert fed.known("b", "s", "1.1.1.1") == ""
    assert_consistent(fed.image)


def test_a_loop_goes_with_its_root() -> None:
    """Relations in a circle are removed like any others."""
    fed = Fed(1).feed("a", "a CNAME b", "b CNAME a", "a CNAME a").answer("c")
    assert (fed.known("a", "b", "c"), fed.image.store.relations) == ("c", 1)


def test_ended_roots_free_their_places_first() -> None:
    """A root whose relations have all expired is released before an older live root is evicted."""
    fed = Fed(2).answer("a").answer("b", ttl=1)
    fed.image.feed(T + 10, response_to("c", f"c A {address('c')}", ttl=3600))
    assert fed.known("a", "b", "c") == "a c"
    assert fed.image.counters["evicted_roots"] == 0
    assert fed.image.get("b", at=T + 1.5) is not None, "its history stays"


def test_a_root_holds_its_place_while_anything_of_its_answers_lives() -> None:
    """A root ends with the longest life of its own relations, grace included."""
    for age, evicted in ((99, 1), (109, 1), (110, 0)):
        fed = Fed(1, grace=10).feed("a", "a CNAME s ttl=1", "s A 1.1.1.1 ttl=100")
        fed.image.feed(T + age, response_to("c", f"c A {address('c')}"))
        assert fed.image.counters["evicted_roots"] == evicted, age


def test_an_answer_that_makes_nothing_holds_no_place() -> None:
    """A question whose answers make no relation is no root."""
    fed = Fed(5).feed("a TXT", "a TXT x").feed("b", "c A 1.1.1.1").feed("d HTTPS", "d HTTPS 1 . alpn=h2")
    assert (len(fed.image), fed.image.store.relations) == (0, 0)


def heaps(image: Image) -> int:
    """Return the number of deadlines in both queues."""
    return len(image.store._ending) + len(image.store._sweeping)


@pytest.mark.parametrize("ttl", [1, 300, WEEK])
def test_endless_fresh_names_keep_the_image_flat(ttl: int) -> None:
    """Under endless fresh names, each with an alias and addresses, everything that the image holds is bounded."""
    fed = Fed(50, grace=60.0)
    for number in range(6000):
        fed.image.feed(
            T + number / 100, response_to(f"n{number}", f"n{number} CNAME c{number}", f"c{number} A 1.1.1.1", ttl=ttl)
        )
    assert len(fed.image) == 50
    assert fed.image.store.relations == 100
    assert len(fed.image.store._ending) <= 1024 + 3 * 51
    assert len(fed.image.store._sweeping) <= 1024 + 3 * 102
    assert_consistent(fed.image)


def test_fresh_names_that_come_slowly_keep_the_image_flat() -> None:
    """Names that end before the image is full are held for the history and no longer."""
    fed = Fed(5000, history=300.0)
    for number in range(3000):
        fed.image.feed(T + number, response_to(f"n{number}", f"n{number} A 1.1.1.1", ttl=10))
    assert len(fed.image) <= 11
    assert fed.image.store.relations <= 311
    assert_consistent(fed.image)


def test_endless_questions_about_one_alias_keep_its_roots_flat() -> None:
    """A relation that endless fresh names share refers only to roots that hold a place."""
    fed = Fed(20, grace=60.0)
    for number in range(500):
        fed.feed(f"n{number}", f"n{number} CNAME cdn", "cdn A 1.1.1.1")
    [shared] = fed.image.store.forward.out["cdn"].values()
    assert len(shared.roots) == 20


def test_one_question_asked_forever_keeps_the_heaps_flat() -> None:
    """The same answer again and again adds no deadline."""
    fed = Fed(20)
    for _ in range(500):
        fed.answer("a", ttl=1)
    assert (fed.image.store.relations, len(fed.image)) == (1, 1)
    assert heaps(fed.image) <= 2


@pytest.mark.parametrize(("nodes", "truncated"), [(40, False), (25, True), (10, True)])
def test_past_its_bound_on_nodes_an_answer_is_truncated(nodes: int, truncated: bool) -> None:
    """A lookup that meets more nodes than its bound returns some of them with `truncated`."""
    downward = Fed(5, nodes=nodes).feed("a", *(f"a A 10.1.0.{n}" for n in range(31))).image.get("a")
    upward = Fed(50, nodes=nodes)
    for number in range(31):
        upward.feed(f"n{number}", f"n{number} A 10.2.0.1")
    names = upward.image.get("10.2.0.1")
    assert (downward.truncated, names.truncated) == (truncated, truncated)
    assert (len(downward.ip_addresses) == 31, len(names.dns_queries) == 31) == (not truncated, not truncated)
    assert downward.ip_addresses
    assert names.dns_queries


NAMES = "abcdef"
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("answer"),
            st.sampled_from(NAMES),
            st.lists(
                st.tuples(
                    st.sampled_from(NAMES),
                    st.sampled_from(["A 1.1.1.1", "A 1.1.1.2", "MX a", "CNAME b", "CNAME c", "HTTPS d", "PTR a"]),
                    st.sampled_from([0, 1, 5, 30, 3600]),
                ),
                min_size=1,
                max_size=4,
            ),
            st.sampled_from([0.0, 1.0, 20.0, -10.0, -40.0]),
        ),
        st.tuples(st.just("pointer"), st.sampled_from(NAMES), st.integers(1, 2), st.sampled_from([0, 5, 3600])),
        st.tuples(st.just("get"), st.sampled_from([*NAMES, "1.1.1.1", "1.1.1.2"])),
        st.tuples(st.just("sweep"), st.integers(0, 5), st.sampled_from([0.0, 10.0])),
    ),
    max_size=40,
)


@given(OPERATIONS, st.integers(1, 4), st.sampled_from([0.0, 3.0]))
def test_churn_leaves_a_consistent_image(operations: list, size: int, grace: float) -> None:
    """After any answers, lookups, sweeps and evictions every relation has a root and every root its relations."""
    image = Image(Bounds(size=size, grace=grace, history=20.0))
    clock = T
    for operation, *what in operations:
        match operation:
            case "answer":
                name, records, ahead = what
                clock += max(ahead, 0.0)
                lines = [f"{owner} {value} ttl={ttl}" for owner, value, ttl in records]
                image.feed(clock + min(ahead, 0.0), response_to(name, *lines))
            case "pointer":
                name, last, ttl = what
                reverse = f"{last}.1.1.1.in-addr.arpa"
                image.feed(clock, response_to(f"{reverse} PTR", f"{reverse} PTR {name}", ttl=ttl))
            case "get":
                image.get(*what)
            case "sweep":
                image.sweep(clock + what[1], what[0])
        assert_consistent(image)
    image.sweep(clock + WEEK, 10**6)
    assert (image.store.relations, len(image), heaps(image)) == (0, 0, 0)
    assert (image.store.forward.out, image.store.forward.into, image.store.pointers.out, image.store.pointers.into) == (
        {},
        {},
        {},
        {},
    )
