"""The owner of an actor: the member with the highest hash, among those that handle the turn."""

from __future__ import annotations

from collections import Counter

from dnstrail_signatures.group.ownership import MAX_ACTORS, Owners, Share, owner

MEMBERS = ("a", "b", "c")
ACTORS = [f"10.0.{number // 256}.{number % 256}" for number in range(3000)]


def test_each_actor_has_one_owner_and_the_shares_are_equal():
    """All members agree on the owner, and each owns about a third."""
    shares = {member: Share(member, MEMBERS) for member in MEMBERS}
    owned = Counter(member for actor in ACTORS for member in MEMBERS if shares[member].owns(actor))
    assert owned.total() == len(ACTORS)
    assert min(owned.values()) > 0.28 * len(ACTORS)


def test_only_the_actors_of_a_departed_member_move():
    """Without one member, the actors of the others keep their owners."""
    for actor in ACTORS:
        if (before := owner(actor, MEMBERS)) != "c":
            assert owner(actor, ("a", "b")) == before


def test_a_member_owns_nothing_before_its_first_turn():
    """A member that joined later owns actors from its turn on alone, and none of a start that it has not received."""
    owners = Owners("a", {"b": {"s": 5}, "c": {}, "d": {"s": None}}, ["s"])
    assert [owners.share("s", turn).members for turn in (4, 5)] == [("a", "c"), ("a", "b", "c")]
    assert owners.changes("s") == {5}
    assert not owners.stated("s")


def test_a_turn_without_members_is_handled_by_every_worker():
    """In doubt a worker handles an event: a turn that no member handles is its own, and so is an unknown start."""
    owners = Owners("a", {"a": {"s": 9}, "c": {"s": 7}}, ["s"])
    assert owners.share("s", 5).whole
    assert owners.share("t", 5).whole
    assert owners.share("s", 8).members == ("c",)


def test_remembered_owners_are_bounded():
    """A share remembers a bounded number of actors, and answers the same afterwards."""
    share = Share("a", MEMBERS)
    first = [share.owns(actor) for actor in ACTORS]
    for number in range(2 * MAX_ACTORS):
        share.owns(f"stranger {number}")
    assert len(share._known) <= MAX_ACTORS
    assert [share.owns(actor) for actor in ACTORS] == first
