"""The names of a connection: live names of its address, in the order of the trails to it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dns_builders import t
from builders.trail_helpers import CLIENT, Asked, to_client
from dnstrail.captured import Process
from dnstrail.connection import Connection
from dnstrail.image.trails.names import MAX_RANKED

ADDRESS = "1.1.1.1"
APP, OTHER = Process(70, "app", container_id="c1"), Process(71, "other", container_id="c1")
OWN = to_client(socket=7, namespace=1)  # a response at its client's socket: the process is known


def names(asked: Asked, address: str = ADDRESS, after: float = 10, **connection: Any) -> list[str]:
    return asked.image.names_of_address(address, now=t(after)).likeliest(Connection(**connection))


def test_the_names_are_those_of_a_lookup() -> None:
    """An address has the live names that a lookup of it finds, each once."""
    asked = Asked().answer(0, "a", "a CNAME b", "b A 1.1.1.1").answer(1, "c")
    assert sorted(names(asked)) == ["a", "b", "c"]


def test_names_are_ordered_as_trails_are() -> None:
    """The question that the process of the connection asked comes first, then the later question of another."""
    asked = Asked().answer(0, "mine", flow=OWN, process=APP).answer(1, "theirs", flow=OWN, process=OTHER)
    assert names(asked, process=70) == ["mine", "theirs"]
    assert names(asked, process=71) == ["theirs", "mine"]


def test_a_question_precedes_the_names_of_its_chain() -> None:
    """Each question is followed by the aliases that lead from it to the address, before the next question."""
    asked = Asked().answer(0, "a", "a CNAME b", "b A 1.1.1.1", flow=OWN, process=APP).answer(5, "z")
    assert names(asked, process=70) == ["a", "b", "z"]
    assert names(asked, client="10.9.9.9") == ["z", "a", "b"]


def test_a_name_that_nobody_asked_comes_last() -> None:
    """A live name that is on no trail follows the names of all trails."""
    asked = Asked().answer(0, "a", "a CNAME b", "b CNAME c", "b A 1.1.1.1", "c A 1.1.1.1").answer(1, "z")
    assert names(asked) == ["z", "a", "b", "c"]


def test_expired_names_are_left_out() -> None:
    """A name whose life and grace have ended names no connection, although its trail is still remembered."""
    asked = Asked(grace=0).answer(0, "gone", ttl=5).answer(1, "live")
    assert names(asked) == ["live"]
    assert [trail.dns_root for trail in asked.trails(ADDRESS, 10).trails] == ["live", "gone"]


def test_reverse_names_follow_forward_names() -> None:
    """The name of a PTR record comes after the names that were resolved to the address."""
    pointer = "1.1.1.1.in-addr.arpa"
    asked = Asked().answer(5, f"{pointer} PTR", f"{pointer} PTR host").answer(0, "a")
    assert names(asked) == ["a", "host"]
    assert names(Asked().answer(5, f"{pointer} PTR", f"{pointer} PTR host")) == ["host"]


def test_reverse_names_follow_names_beside_the_trails() -> None:
    """The name of a PTR record comes after a forward name that is on no trail, whoever asked."""
    asked = Asked().answer(0, "a", "a A 1.1.1.1", "a MX mx", "mx A 1.1.1.1")
    pointer = "1.1.1.1.in-addr.arpa"
    asked.answer(5, f"{pointer} PTR", f"{pointer} PTR host", flow=OWN, process=APP)
    assert names(asked, process=70) == asked.image.get(ADDRESS, now=t(10)).dns_queries == ["a", "mx", "host"]


def test_a_process_that_asked_for_the_reverse_name_of_a_sinkhole_has_its_name() -> None:
    """At a sinkhole address the name of a PTR record counts for the process that asked for it."""
    pointer = "1.0.0.127.in-addr.arpa"
    asked = Asked().answer(0, f"{pointer} PTR", f"{pointer} PTR host", flow=OWN, process=APP)
    assert (names(asked, "127.0.0.1", process=70), names(asked, "127.0.0.1", process=71)) == (["host"], [])


@pytest.mark.parametrize("address", ["9.9.9.9", "", "a", "no address", "x" * 300])
def test_an_unknown_address_has_no_names(address: str) -> None:
    """An address without live relations, and a text that is no address, has no names."""
    assert names(Asked().answer(0, "a"), address) == []


def test_an_address_is_found_in_every_spelling() -> None:
    """An IPv4-mapped IPv6 address has the names of the IPv4 address."""
    assert names(Asked().answer(0, "a"), "::ffff:1.1.1.1") == ["a"]


def test_the_past_is_asked_with_at() -> None:
    """With `at` only answers that were seen by then name the connection."""
    asked = Asked().answer(0, "a").answer(5, "b")
    assert asked.image.names_of_address(ADDRESS, at=t(4)).likeliest(Connection()) == ["a"]


def test_a_connection_uses_no_root() -> None:
    """Naming a connection does not keep a root from eviction, as a lookup does."""
    asked = Asked(size=2).answer(0, "a").answer(1, "b", "b A 2.2.2.2")
    names(asked)
    asked.answer(2, "c", "c A 3.3.3.3")
    assert names(asked) == []


def test_names_are_bounded_as_a_lookup_is() -> None:
    """No more names are returned than a lookup may walk nodes."""
    for nodes, every in ((20, True), (5, False)):
        asked = Asked(nodes=nodes)
        for number in range(20):
            asked.answer(number, f"n{number}")
        found = names(asked, after=20)
        assert sorted(found) == sorted(asked.image.get(ADDRESS, now=t(20)).dns_queries)
        assert (len(found) == 20) is every


def test_the_names_of_a_crowded_address_are_ordered_by_their_askers() -> None:
    """The names that process, container and client asked precede the rest of more than 256 names, in this order."""
    asked = Asked().answer(0, "mine", flow=OWN, process=APP).answer(0.2, "mine.too", flow=OWN, process=APP)
    asked.answer(0.5, "near", flow=OWN, process=OTHER).answer(0.7, "neighbour", flow=to_client(CLIENT))
    for number in range(MAX_RANKED - 4):
        asked.answer(1 + number / 1000, f"n{number}")
    assert names(asked, process=70, container="c1")[:3] == ["mine.too", "mine", "near"]
    asked.answer(2, "one.more")
    plain = asked.image.get(ADDRESS, now=t(10)).dns_queries
    assert (MAX_RANKED, len(plain)) == (256, 257)
    assert asked.image.names_of_address(ADDRESS, now=t(10)).crowded
    assert names(asked) == plain
    found = names(asked, process=70, container="c1")
    assert found[:4] == ["mine.too", "mine", "near", "one.more"]
    assert sorted(found) == sorted(plain)
    assert names(asked, process=71)[:2] == ["near", "one.more"]


def test_a_crowded_sinkhole_names_only_what_its_process_asked() -> None:
    """A sinkhole with more than 256 blocked names has only the names that the connection's own process asked for."""
    asked = Asked().answer(0, "mine", "mine A 127.0.0.1", flow=OWN, process=APP)
    for number in range(MAX_RANKED):
        asked.answer(1, f"n{number}", f"n{number} A 127.0.0.1", flow=OWN, process=OTHER)
    assert names(asked, "127.0.0.1", process=70, container="c1") == ["mine"]
    assert names(asked, "127.0.0.1", container="c1") == []


SINKHOLES = {"0.0.0.0": "A", "0.1.2.3": "A", "127.0.0.1": "A", "127.9.9.9": "A", "::": "AAAA", "::1": "AAAA"}


@pytest.mark.parametrize("address", SINKHOLES)
def test_a_sinkhole_names_only_what_its_process_asked(address: str) -> None:
    """A sinkhole address has the blocked names that the connection's own process asked, and no others."""
    asked = Asked()
    for name, process in (("blocked.a", APP), ("blocked.b", OTHER)):
        asked.answer(
            0, f"{name} {SINKHOLES[address]}", f"{name} {SINKHOLES[address]} {address}", flow=OWN, process=process
        )
    assert names(asked, address, process=70) == ["blocked.a"]
    assert names(asked, address, process=71, container="c1") == ["blocked.b"]
    for connection in ({}, {"process": 99}, {"container": "c1", "client": CLIENT}):
        assert names(asked, address, **connection) == []
    assert sorted(asked.image.get(address, now=t()).dns_queries) == ["blocked.a", "blocked.b"]


@pytest.mark.parametrize("address", ["1.0.0.0", "10.127.0.1", "126.0.0.1", "::2", "1::"])
def test_an_address_beside_the_sinkholes_is_ordinary(address: str) -> None:
    """An address outside the sinkhole networks has the names of every asker."""
    kind = "AAAA" if ":" in address else "A"
    assert names(Asked().answer(0, f"a {kind}", f"a {kind} {address}"), address) == ["a"]


QUESTIONS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), st.sampled_from([1, 5, 300])), max_size=12
)


@given(QUESTIONS, st.sampled_from([0.0, 60.0]))
def test_a_connection_has_every_name_of_a_lookup(questions: list[tuple[str, str, int]], grace: float) -> None:
    """Whatever was answered, a connection has the names of a lookup, the first trail's question first."""
    asked = Asked(grace=grace)
    for after, (question, target, ttl) in enumerate(questions):
        records = [f"{question} CNAME {target}"] if question != target else [f"{question} A {ADDRESS}"]
        asked.answer(after, question, *records, ttl=ttl)
    found, after = asked.image.get(ADDRESS, now=t(len(questions))), len(questions)
    expected = found.dns_queries if found else []
    assert sorted(names(asked, after=after)) == sorted(expected)
    roots = [trail.dns_root for trail in asked.trails(ADDRESS, after).trails] if found else []
    shown = [name for name in names(asked, after=after) if name in roots]
    assert shown[:1] == [root for root in roots if root in expected][:1]
