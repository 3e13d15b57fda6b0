"""The places of query roots: whose they are, and who gives one up.

Tests of dnstrail.image.order.
"""

from __future__ import annotations

from typing import Any

import pytest

from builders.dns_builders import A, by_hand, record, response_to, t
from builders.talk import OWN, SERVERS, Talk, answer, answers, back, query
from dnstrail.image import Circumstances, Image
from dnstrail.image.holders import MAX_PARTIES

WEEK = 7 * 86_400
PTR = "4.3.2.1.in-addr.arpa"


def fed(talk: Talk, cgroup: int, *names: str, ttl: int = WEEK, second: int = 0, **whose: Any) -> None:
    """Feed answers that a party asked for."""
    for _, payload in answers(names, ttl=ttl):
        talk.hear(second, payload, cgroup=cgroup, **whose)


def found(talk: Talk, *names: str) -> int:
    """Return the number of names that are found, without using their roots."""
    return sum(talk.image.get(name, at=talk.image.now) is not None for name in names)


def large(name: str, count: int) -> bytes:
    """Return an answer with many addresses."""
    addresses = (b"\x0b" + number.to_bytes(3, "big") for number in range(count))
    return by_hand(query(name)[12:], *(record(b"\xc0\x0c", A, packed, WEEK) for packed in addresses))


def test_a_few_large_answers_do_not_empty_the_image_of_others() -> None:
    """After 33 answers of 4,050 relations of one party, all earlier and all fresh names of others are found."""
    talk = Talk("accept")
    earlier = [f"early{number}" for number in range(1000)]
    fresh = [f"fresh{number}" for number in range(300)]
    fed(talk, 1, *earlier)
    for number in range(33):
        talk.hear(0, large(f"large{number}", 4050), cgroup=2)
    fed(talk, 3, *fresh)
    assert (found(talk, *earlier), found(talk, *fresh)) == (1000, 300)
    assert talk.image.store.places.relations <= talk.image.bounds.most_relations


def test_endless_fresh_names_of_one_party_leave_the_roots_of_others() -> None:
    """A party with 60,000 fresh names keeps half of all places, and the names of others stay."""
    talk = Talk("accept")
    earlier = [f"early{number}" for number in range(2500)]
    fed(talk, 1, *earlier)
    fed(talk, 2, *(f"n{number}" for number in range(60_000)))
    assert (found(talk, *earlier), len(talk.image)) == (2500, 5000)
    fed(talk, 3, "another")
    assert (found(talk, *earlier), found(talk, "another"), found(talk, "n57500")) == (2499, 1, 1)


def test_a_party_with_more_than_half_of_all_places_gives_up_its_own() -> None:
    """A party beyond half of all places gives up its least recently used root, whoever asks; up to half anybody's."""
    talk = Talk("accept", size=4)
    fed(talk, 1, "a")
    fed(talk, 2, "b", "c", "d")
    fed(talk, 3, "e")
    assert talk.image.roots() == ["a", "c", "d", "e"]
    fed(talk, 3, "f")
    assert talk.image.roots() == ["c", "d", "e", "f"], "half of all places is not too many"
    talk.image.get("d")
    fed(talk, 2, "g")
    assert talk.image.roots() == ["e", "f", "d", "g"]


def test_a_party_with_more_than_half_of_all_relations_gives_up_its_own() -> None:
    """A party beyond half of all relations gives up its own roots, although it holds few places."""
    talk = Talk("accept", relations=100)
    fed(talk, 1, *"abcde")
    talk.hear(0, large("x", 45), cgroup=2)
    talk.hear(0, large("y", 45), cgroup=2)
    fed(talk, 1, *"fghijk")
    assert talk.image.roots() == [*"abcde", "y", *"fghijk"]
    assert talk.image.counters["evicted_relations"] == 1


def test_the_root_that_was_answered_just_now_goes_last() -> None:
    """A single answer beyond half of all relations is kept: nothing new is refused to keep something old."""
    talk = Talk("accept", relations=100)
    fed(talk, 1, *"abcde")
    talk.hear(0, large("x", 98), cgroup=2)
    assert talk.image.roots() == ["d", "e", "x"]
    talk.hear(0, large("y", 150), cgroup=2)
    assert talk.image.roots() == ["y"]


def test_an_ended_root_of_the_party_goes_first() -> None:
    """Among its own roots a party gives up one that has ended, even if it was used later."""
    talk = Talk("accept", size=4, grace=0)
    fed(talk, 1, "a")
    fed(talk, 2, "b", "c")
    talk.hear(1, answer("10.0.0.9", name="short", ttl=1), cgroup=2)
    talk.hear(10, answer("10.0.0.8", name="d"), cgroup=2)
    assert sorted(talk.image.roots()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("now", [1, 5])
def test_a_root_that_is_answered_again_after_its_end_is_no_ended_one(now: int) -> None:
    """From the instant at which its relations ended a root goes first, until it is answered again."""
    talk = Talk("accept", size=3, grace=0)
    fed(talk, 1, "ended", ttl=1)
    fed(talk, 2, "a", second=now)
    fed(talk, 1, "ended", second=now)
    fed(talk, 3, "b", second=now)
    fed(talk, 4, "c", second=now)
    assert talk.image.roots() == ["ended", "b", "c"]


def test_a_root_belongs_to_the_party_that_asked_first() -> None:
    """A root stays its first party's when another one asks for it, until it loses its place."""
    talk = Talk("accept", size=4)
    fed(talk, 1, "a", "b")
    fed(talk, 2, "a", "b", "c", "d", "e")
    assert talk.image.roots() == ["a", "b", "d", "e"]
    fed(talk, 2, "f")
    assert talk.image.roots() == ["a", "b", "e", "f"]


@pytest.mark.parametrize("first", ["flooder", "victim"])
def test_a_flooder_that_asks_for_the_names_of_others_keeps_them(first: str) -> None:
    """Whoever asks for the names of others, before or after them, and floods, evicts none of these names."""
    talk = Talk("accept")
    asked = names("asked", 300)
    askers = (2, 1) if first == "flooder" else (1, 2)
    for second, cgroup in enumerate(askers):
        fed(talk, cgroup, *asked, second=second)
    fed(talk, 2, *names("flood", 20_000), second=2)
    assert found(talk, *asked) == 300


def test_an_owner_gives_up_last_what_another_asked_for() -> None:
    """Beyond half of all places an owner gives up what it alone asked for, then the least recently used of the rest."""
    talk = Talk("accept", size=4)
    fed(talk, 2, "a", "b", "c")
    fed(talk, 1, "a", "b", "c", second=1)
    fed(talk, 2, "d", "e")
    assert talk.image.roots() == ["a", "b", "c", "e"]
    fed(talk, 2, "f")
    assert talk.image.roots() == ["a", "b", "c", "f"]
    fed(talk, 1, "f", second=1)
    fed(talk, 1, "g", second=1)
    assert talk.image.roots() == ["b", "c", "f", "g"]


def test_a_host_that_asks_for_the_names_of_another_keeps_them() -> None:
    """A host that states the names of another host first, and floods from made-up cgroups, evicts none of them."""
    talk = Talk("accept", size=400)
    fed(talk, 1, *names("elsewhere", 100), host="three")
    for second, host in enumerate(("two", "one")):
        fed(talk, 1, *names("asked", 100), second=second, host=host)
    for number, name in enumerate(names("flood", 2000)):
        fed(talk, 100 + number, name, second=2, host="two")
    assert (found(talk, *names("asked", 100)), found(talk, *names("elsewhere", 100))) == (100, 100)


@pytest.mark.parametrize("cgroup", [0, 5])
def test_the_party_of_a_root_without_a_cgroup(cgroup: int) -> None:
    """Without a cgroup the network namespace is the party."""
    talk = Talk("accept", size=4)
    fed(talk, 9, "a")
    for number in range(9):
        talk.hear(0, answer(name=f"n{number}"), back(OWN, namespace=4), cgroup=cgroup)
    assert talk.image.roots() == ["a", "n6", "n7", "n8"]


def test_hosts_are_parties_where_nothing_else_is_known() -> None:
    """Without cgroup and namespace the host is the party: a busy host leaves the roots of another."""
    image = Image(Talk(size=4).image.bounds, "accept")
    for host, names in (("one", "ab"), ("two", "cdefghi")):
        for name in names:
            image.feed(t(0), answer(name=name), Circumstances(host=host))
    assert image.roots() == ["a", "b", "h", "i"]


def test_a_lookup_uses_the_root_by_whose_answer_it_was_found() -> None:
    """A lookup of a shared address uses the root that it returns, and no other root of the address."""
    talk = Talk("accept", size=3)
    for name in "ab":
        talk.hear(0, answer("192.0.2.1", name=name))
    fed(talk, 1, "c")
    assert talk.image.get("192.0.2.1").dns_root == "b"
    assert talk.image.roots() == ["a", "c", "b"]
    assert talk.image.get("a").dns_root == "a"
    assert talk.image.roots() == ["c", "b", "a"]
    talk.image.get_many(["c", "zz", "192.0.2.1"])
    assert talk.image.roots() == ["a", "c", "b"]


@pytest.mark.parametrize("key", ["1.2.3.4", "host.example", PTR])
def test_a_lookup_by_a_reverse_record_uses_its_root(key: str) -> None:
    """With a reverse record alone a lookup has no question, and uses the root of the reverse answer."""
    image = Image()
    image.feed(t(0), response_to(f"{PTR} PTR", f"{PTR} PTR host.example"))
    image.feed(t(0), response_to("a", "a A 1.1.1.1"))
    assert image.get(key).dns_root == ""
    assert image.roots() == ["a", "1.2.3.4"]


def test_a_root_by_a_doubted_answer_is_used_only_if_it_is_returned() -> None:
    """A lookup whose root is another one's does not use the root of a doubted answer."""
    talk = Talk()
    talk.image.gap(t(0), cgroup=1)
    talk.ask(0, cgroup=1)
    talk.hear(0, answer("192.0.2.1"), cgroup=1)
    talk.hear(0, answer("192.0.2.1", name="doubted"), cgroup=1)
    assert talk.image.roots() == ["a.example", "doubted"]
    assert talk.image.get("192.0.2.1").dns_root == "a.example"
    assert talk.image.roots() == ["doubted", "a.example"]


def test_a_root_belongs_to_the_party_of_its_asker() -> None:
    """An answer that is first captured at a forwarder's socket takes a place of the asker, not of the forwarder."""
    talk = Talk("reject", size=4)
    for name in ("a", "b", "c", "d"):
        talk.ask(0, query(name), OWN, cgroup=5, pid=70)
        talk.ask(0, query(name), SERVERS, cgroup=9, pid=80)
        assert talk.hear(0.01, answer(name=name), back(SERVERS), cgroup=9, pid=80).admitted
        assert not talk.hear(0.01, answer(name=name), back(OWN), cgroup=5, pid=70).admitted
    assert {(root.party.key, root.name) for root in talk.image.store.places} == {
        (("", "cgroup", 5, 5), name) for name in ("a", "b", "c", "d")
    }


def test_a_query_that_waits_no_more_tells_no_asker() -> None:
    """A query with the same bytes that comes after the wait of the first may be of another process."""
    talk = Talk("reject", size=4)
    talk.ask(0, query(), OWN, cgroup=5, pid=70)
    talk.ask(0, query(), SERVERS, cgroup=9, pid=80)
    talk.ask(40, query(), SERVERS, cgroup=9, pid=80)
    assert talk.hear(40.01, answer(), back(SERVERS), cgroup=9, pid=80).admitted
    [root] = talk.image.store.places
    assert (root.party.key, root.latest.youngest.evidence.process) == (("", "cgroup", 9, 9), None)
    assert talk.image.admission.counters["unanswered"] == 1


def names(first: str, count: int) -> list[str]:
    """Return names."""
    return [f"{first}{number}" for number in range(count)]


@pytest.mark.parametrize("cgroups", [30, 300])
def test_cgroups_that_a_user_makes_are_no_further_shares(cgroups: int) -> None:
    """A user who floods from many own cgroups keeps no more than a single party, and the names of others stay."""
    talk = Talk("accept")
    earlier, fresh = names("early", 2000), names("fresh", 300)
    fed(talk, 1, *earlier)
    for number, name in enumerate(names("flood", 20_000)):
        fed(talk, 100 + number % cgroups, name, owner=99)
    fed(talk, 3, *fresh)
    assert (found(talk, *earlier), found(talk, *fresh)) == (2000, 300)
    [*_, owner] = [root.party.owner for root in talk.image.store.places if root.party.key[3] == 99]
    assert (owner.places, len(owner.parties)) == (2700, min(cgroups, MAX_PARTIES + 1))


def test_large_answers_to_many_cgroups_of_a_user() -> None:
    """The relations of a user's cgroups are one share, too."""
    talk = Talk("accept")
    earlier = names("early", 1000)
    fed(talk, 1, *earlier)
    for number in range(40):
        talk.hear(0, large(f"large{number}", 4050), cgroup=100 + number, owner=99)
    assert found(talk, *earlier) == 1000


def test_the_largest_party_of_an_owner_gives_up_its_own() -> None:
    """Within an owner the party with most places gives up its least recently used root."""
    talk = Talk("accept", size=8)
    fed(talk, 1, "a", "b")
    fed(talk, 2, "c", owner=9)
    fed(talk, 3, "d", "e", "f", "g", "h", owner=9)
    fed(talk, 1, "i")
    assert talk.image.roots() == ["a", "b", "c", "e", "f", "g", "h", "i"]
    fed(talk, 2, "j", owner=9)
    assert talk.image.roots() == ["a", "b", "c", "f", "g", "h", "i", "j"]


def test_the_party_with_most_relations_gives_up_its_own() -> None:
    """Within an owner with too many relations the party with most of them gives up a root, though it has few places."""
    talk = Talk("accept", relations=100)
    fed(talk, 1, *"abcde")
    fed(talk, 2, *"uvw", owner=9)
    for name in "xyz":
        talk.hear(0, large(name, 31), cgroup=3, owner=9)
    assert talk.image.roots() == [*"abcde", *"uvw", "y", "z"]


def test_an_owner_with_one_answer_that_is_too_large() -> None:
    """The root that was answered just now goes last, but the other roots of its owner go before those of others."""
    talk = Talk("accept", relations=100)
    fed(talk, 1, *"abcde")
    fed(talk, 2, *"uvw", owner=9)
    talk.hear(0, large("x", 94), cgroup=3, owner=9)
    assert talk.image.roots() == [*"abcde", "w", "x"]


def test_a_busy_host_gives_up_its_own() -> None:
    """A host with more than half of all places gives up own roots, whatever owners it states; up to half anybody's."""
    talk = Talk("accept", size=100)
    fed(talk, 1, *names("one", 20), host="one")
    for number, name in enumerate(names("flood", 500)):
        fed(talk, 100 + number, name, host="two")
    assert found(talk, *names("one", 20)) == 20
    fed(talk, 1, *names("three", 30), host="three")
    assert found(talk, *names("one", 20)) == 20
    fed(talk, 1, *names("four", 10), host="four")
    assert found(talk, *names("one", 20)) == 10


def test_an_owner_on_a_busy_host_leaves_the_roots_of_its_neighbours() -> None:
    """On a host with more than half of all places an owner with more than a quarter gives up its own."""
    talk = Talk("accept", size=100)
    fed(talk, 1, *names("elsewhere", 45), host="one")
    fed(talk, 1, *names("neighbour", 25), host="two")
    for number, name in enumerate(names("flood", 500)):
        fed(talk, 100 + number % 30, name, owner=99, host="two")
    assert (found(talk, *names("elsewhere", 45)), found(talk, *names("neighbour", 25))) == (45, 25)


def test_the_least_recently_used_root_of_all_hosts_goes() -> None:
    """Where no host has too many roots, the least recently used one goes, wherever it is; an ended one goes before."""
    talk = Talk("accept", size=6, grace=0)
    for name, host in (("a", "one"), ("b", "two"), ("c", "three"), ("d", "one"), ("e", "two")):
        fed(talk, 1, name, host=host)
    talk.hear(0, answer("10.0.0.9", name="short", ttl=1), cgroup=1, host="three")
    assert talk.image.get("a") is not None
    talk.hear(10, answer("10.0.0.8", name="f"), cgroup=1, host="three")
    assert talk.image.roots() == ["b", "c", "d", "e", "a", "f"]
    talk.hear(10, answer("10.0.0.8", name="g"), cgroup=1, host="one")
    assert talk.image.roots() == ["c", "d", "e", "a", "f", "g"]


def test_hosts_that_hold_nothing_leave_memory() -> None:
    """Hosts, owners and parties whose roots are gone are held nowhere."""
    talk = Talk("accept", size=10, history=0)
    for number in range(1000):
        fed(talk, number, f"n{number}", ttl=1, host=f"h{number}")
        talk.image.advance(t(number * 200))
        talk.image.sweep(100)
    talk.image.advance(t(10**6))
    talk.image.sweep(100)
    places = talk.image.store.places
    assert not any((places._hosts, places._owners, places._oldest, places._with_ended))
    assert not any((places._grown_hosts, places._grown_owners))
