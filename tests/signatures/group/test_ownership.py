"""The owner of an actor: the member with the highest hash, among those that handle the turn."""

from __future__ import annotations

from collections import Counter

from dnstrail_signatures.group.ownership import MAX_ACTORS, Owners, Share, Span, owner

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


def test_a_member_owns_nothing_outside_of_its_turns():
    """A member that joined later, or that has left, owns actors in its turns alone."""
    owners = Owners("a", {"s": {"a": Span(0), "b": Span(5), "c": Span(0, 7)}})
    members = [owners.share("s", turn).members for turn in (4, 5, 7, 8)]
    assert members == [("a", "c"), ("a", "b", "c"), ("a", "b", "c"), ("a", "b")]


def test_a_turn_without_members_is_handled_by_every_worker():
    """In doubt a worker handles an event: a turn that no member handles is its own."""
    owners = Owners("a", {"s": {"a": Span(9), "c": Span(0, 3)}})
    assert owners.share("s", 5).whole
    assert owners.share("s", 5).owns("anything")


def test_a_start_that_is_not_known_has_no_owner_yet():
    """The events of a new start wait for the members."""
    share = Owners("a", {}).share("s", 0)
    assert not share.owns("anything")
    assert not share.whole


def test_remembered_owners_are_bounded():
    """A share remembers a bounded number of actors, and answers the same afterwards."""
    share = Share("a", MEMBERS)
    first = [share.owns(actor) for actor in ACTORS]
    for number in range(2 * MAX_ACTORS):
        share.owns(f"stranger {number}")
    assert len(share._known) <= MAX_ACTORS
    assert [share.owns(actor) for actor in ACTORS] == first
