"""The size of the image."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dns_builders import response_to, t
from dnstrail.image import Bounds, Circumstances, Image
from dnstrail.image.store import Wheel

WEEK = 7 * 86400


class Fed:
    """An image, and a clock that advances by one second with each answer."""

    def __init__(
        self, size: int, *, grace: float = 0.0, history: float = 300.0, nodes: int = 4096, live: bool = False
    ) -> None:
        self.image = Image(Bounds(size=size, grace=grace, history=history, nodes=nodes))
        self._clock = count()
        self._live = live

    def answer(self, *names: str, ttl: int = 3600) -> Fed:
        """Feed the answer to a question about each name: one address of its own."""
        for name in names:
            self.feed(name, f"{name} A {address(name)}", ttl=ttl)
        return self

    def feed(self, question: str, *records: str, ttl: int = 3600) -> Fed:
        """Feed the answer to a question."""
        self.image.feed(t(next(self._clock)), response_to(question, *records, ttl=ttl), Circumstances(live=self._live))
        return self

    def known(self, *names: str) -> str:
        """Return the names that are found, without using their roots."""
        return " ".join(name for name in names if self.image.get(name, at=self.image.now))


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
    assert fed.image.store.places.relations == 1


LOOKUPS = {
    "get": (lambda image: image.get("a"), "a c"),
    "get by its address": (lambda image: image.get(address("a")), "a c"),
    "get in another spelling": (lambda image: image.get(" A. "), "a c"),
    "get as of now": (lambda image: image.get("a", now=image.now), "a c"),
    "get in the past": (lambda image: image.get("a", at=image.now), "b c"),
    "trails": (lambda image: image.trails("a"), "b c"),
    "get of something unknown": (lambda image: image.get("zz"), "b c"),
    "get when it has expired": (lambda image: image.get("a", now=t(WEEK)), "b c"),
    "sweep": (lambda image: image.sweep(100), "b c"),
    "the names of a connection": (lambda image: image.names_of_address(address("a")), "b c"),
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
    fed.answer("d", "e")
    assert fed.known("b", "s", "1.1.1.1") == ""


def test_a_loop_goes_with_its_root() -> None:
    """Relations in a circle are removed like any others."""
    fed = Fed(1).feed("a", "a CNAME b", "b CNAME a", "a CNAME a").answer("c")
    assert (fed.known("a", "b", "c"), fed.image.store.places.relations) == ("c", 1)


@pytest.mark.parametrize("live", [False, True])
def test_an_ended_root_goes_first(live: bool) -> None:
    """A root whose relations have all ended goes before an older live root, although its history is still held."""
    fed = Fed(2, live=live).answer("a").answer("b", ttl=1)
    assert fed.image.get("b") is not None, "a use does not keep it"
    fed.image.advance(t(10))
    assert fed.image.get("b", at=t(1.5)) is not None, "its history is held"
    fed.image.feed(t(10), response_to("c", f"c A {address('c')}", ttl=3600), Circumstances(live=live))
    assert fed.known("a", "b", "c") == "a c"
    assert fed.image.get("b", at=t(1.5)) is None
    assert fed.image.forgotten == t(2)
    assert fed.image.counters["evicted_roots"] == 1


def test_an_answer_revives_an_ended_root() -> None:
    """A root that ended and is answered again goes no longer before the others."""
    fed = Fed(2).answer("b", ttl=1).answer("a")
    fed.image.feed(t(10), response_to("b", f"b A {address('b')}", ttl=3600))
    assert fed.image.roots() == ["a", "b"]
    fed.image.feed(t(11), response_to("c", f"c A {address('c')}", ttl=3600))
    assert fed.known("a", "b", "c") == "b c"


def test_a_root_has_ended_with_the_longest_life_of_its_answers() -> None:
    """A root has not ended while anything of its own relations is live, grace included."""
    for age, kept in ((99, "b c"), (109, "b c"), (110, "a c")):
        fed = Fed(2, grace=10).feed("b", "b CNAME s ttl=1", "s A 1.1.1.1 ttl=100")
        fed.image.feed(t(0.5), response_to("a", f"a A {address('a')}", ttl=3600))
        fed.image.feed(t(1), response_to("b", "b CNAME s ttl=1"))
        fed.image.get("a", now=t(1))
        fed.image.get("s", now=t(1))
        fed.image.feed(t(age), response_to("c", f"c A {address('c')}", ttl=3600))
        assert " ".join(sorted(fed.image.roots())) == kept, age


def test_an_answer_that_makes_nothing_holds_no_place() -> None:
    """A question whose answers make no relation is no root."""
    fed = Fed(5).feed("a TXT", "a TXT x").feed("b", "c A 1.1.1.1").feed("d HTTPS", "d HTTPS 1 . alpn=h2")
    assert (len(fed.image), fed.image.store.places.relations) == (0, 0)


def deadlines(image: Image) -> int:
    """Return the number of deadlines that wait."""
    return sum(len([*bucket]) for wheel in wheels(image) for bucket in wheel._buckets.values())


def buckets(image: Image) -> int:
    """Return the number of buckets of deadlines."""
    return sum(len(wheel._buckets) for wheel in wheels(image))


def wheels(image: Image) -> tuple[Wheel, Wheel]:
    """Return the wheels of records that will end, and of records that will be removed."""
    return image.store._ending, image.store._leaving


@pytest.mark.parametrize("ttl", [1, 300, WEEK])
def test_endless_fresh_names_keep_the_image_flat(ttl: int) -> None:
    """Under endless fresh names, each with an alias and addresses, everything that the image holds is bounded."""
    fed = Fed(50, grace=60.0)
    for number in range(6000):
        fed.image.feed(
            t(number / 100),
            response_to(f"n{number}", f"n{number} CNAME c{number}", f"c{number} A 1.1.1.1", ttl=ttl),
            Circumstances(live=True),
        )
    assert (len(fed.image), fed.image.store.places.relations, deadlines(fed.image)) == (50, 100, 50)
    assert buckets(fed.image) <= 600 + 2


def test_fresh_names_that_come_slowly_keep_the_image_flat() -> None:
    """Names that end before the image is full are held for the history and no longer."""
    fed = Fed(5000, history=300.0, live=True)
    for number in range(3000):
        fed.feed(f"n{number}", f"n{number} A 1.1.1.1", ttl=10)
    assert (len(fed.image), fed.image.store.places.relations, deadlines(fed.image)) == (310, 310, 310)
    assert buckets(fed.image) <= 310


def test_endless_questions_about_one_alias_keep_its_answers_flat() -> None:
    """A relation that endless fresh names share is held once for each root that holds a place."""
    fed = Fed(20, grace=60.0)
    for number in range(500):
        fed.feed(f"n{number}", f"n{number} CNAME cdn", "cdn A 1.1.1.1")
    assert (len(fed.image.store.graph.out["cdn"]), len(fed.image.store.graph.into["1.1.1.1"])) == (20, 20)


def test_one_question_asked_forever_adds_no_deadline() -> None:
    """The same answer again and again is one record with one deadline."""
    fed = Fed(20, live=True)
    for _ in range(500):
        fed.answer("a", ttl=1)
    assert (fed.image.store.places.relations, len(fed.image), deadlines(fed.image)) == (1, 1, 1)


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
def test_churn_leaves_nothing_behind(operations: list, size: int, grace: float) -> None:
    """After any answers, lookups, sweeps and evictions, everything is within its bounds and goes in the end."""
    image, live = Image(Bounds(size=size, grace=grace, history=20.0)), Circumstances(live=True)
    clock = 0.0
    for operation, *what in operations:
        match operation:
            case "answer":
                name, records, ahead = what
                clock += max(ahead, 0.0)
                lines = [f"{owner} {value} ttl={ttl}" for owner, value, ttl in records]
                image.feed(t(clock + min(ahead, 0.0)), response_to(name, *lines), live)
            case "pointer":
                name, last, ttl = what
                reverse = f"{last}.1.1.1.in-addr.arpa"
                image.feed(t(clock), response_to(f"{reverse} PTR", f"{reverse} PTR {name}", ttl=ttl), live)
            case "get":
                image.get(*what)
            case "sweep":
                image.advance(t(clock + what[1]))
                image.sweep(what[0])
        assert len(image) <= size
        assert sorted(image.roots()) == sorted(image.store.places.roots)
        roots = [*image.store.places]
        assert image.store.places.relations == sum(len(record.edges) for root in roots for record in root.records())
        assert deadlines(image) == sum(len(root.records()) for root in roots)
    image.live = True
    image.advance(t(clock + 2 * WEEK))
    image.sweep(10**6)
    graph = image.store.graph
    assert (image.store.places.relations, len(image), image.roots()) == (0, 0, [])
    assert ([*graph.out], [*graph.into], [*graph.pointed]) == ([], [], [])
    assert all((wheel._buckets, wheel._seconds) == ({}, []) for wheel in wheels(image))
    assert image.store.places._owners == image.store.places._hosts == {}
