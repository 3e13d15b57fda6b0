"""A member of the own user that behaves badly: honest workers lose nothing beyond what it claims, and that in time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from dnstrail.protocol.lookups import JoinRequest, RefusedRequestError
from dnstrail.protocol.members import EXPIRY, FORM, RENEWAL, Progress
from dnstrail_signatures.group import share
from model.group_world import TICK, World

MOST = (1 << 53) - 1
HONEST = 3


class Hostile:
    """A process of the same user that sends what it likes to the cache."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.began = world.turn
        self.names = 0

    def join(self, worker: str, first: int, last: int, **fields: Any) -> None:
        """Join, if there is room."""
        progress = (Progress(self.world.start, first, last),)
        with suppress(RefusedRequestError):
            request = JoinRequest(group="group", user=1, worker=worker, form=FORM, progress=progress, **fields)
            self.world.cache.join(request, self.world.now, self.world.reached)


def joins_and_leaves(hostile: Hostile) -> None:
    """Join under 200 new names, a thousand in a second, and leave at once."""
    for _ in range(200):
        hostile.names += 1
        hostile.join(f"x{hostile.names}", hostile.world.turn, hostile.world.turn)
        hostile.join(f"x{hostile.names}", hostile.world.turn, hostile.world.turn, leave=True)


def ends_others(hostile: Hostile) -> None:
    """End the memberships of all others, under their names."""
    for worker in hostile.world.workers:
        hostile.join(worker.name, 0, MOST, leave=True)


def takes_names(hostile: Hostile) -> None:
    """Renew the memberships of all others, and state that they have handled nothing."""
    for worker in hostile.world.workers:
        hostile.join(worker.name, hostile.began, -1)


def handles_nothing(hostile: Hostile) -> None:
    """Join once, and renew without handling anything."""
    hostile.join("idle", hostile.began + 8, hostile.began)


def has_many_names(hostile: Hostile) -> None:
    """Fill the group with further members, which claim to handle everything."""
    for number in range(100):
        hostile.join(f"many {number}", hostile.world.turn, hostile.world.turn)


def claims_the_present(hostile: Hostile) -> None:
    """Claim to have handled all that was published."""
    hostile.join("liar", hostile.began + 8, hostile.world.turn)


def claims_the_future(hostile: Hostile) -> None:
    """Claim to have handled more than was published, in an epoch that has not come."""
    hostile.join("liar", 0, MOST, epoch=MOST)


def attacked(attack: Callable[[Hostile], None], monkeypatch: pytest.MonkeyPatch) -> tuple[World, int]:
    """Attack a group of honest workers for ten seconds; return the world later, and the last turn of the expiry."""
    monkeypatch.setattr(share, "time", (world := World()).clock)
    for _ in range(HONEST):
        world.begin()
    world.run(8)
    assert not world.missed()
    hostile = Hostile(world)
    for _ in range(round(10 / TICK)):
        attack(hostile)
        world.run(TICK)
    world.run(EXPIRY + 2 * RENEWAL)
    expired = world.turn
    world.run(30)
    return world, expired


@pytest.mark.parametrize("attack", [joins_and_leaves, ends_others, takes_names, handles_nothing])
def test_honest_workers_lose_nothing(monkeypatch: pytest.MonkeyPatch, attack: Callable[[Hostile], None]) -> None:
    """Each event is handled by an honest worker, during the attack and after it."""
    world, _ = attacked(attack, monkeypatch)
    assert not world.missed()


@pytest.mark.parametrize("attack", [has_many_names, claims_the_present, claims_the_future])
def test_what_a_member_claims_ends_with_its_membership(
    monkeypatch: pytest.MonkeyPatch, attack: Callable[[Hostile], None]
) -> None:
    """A member that claims events takes them away until its membership has expired, and no longer."""
    world, expired = attacked(attack, monkeypatch)
    assert {turn for _, turn, _ in world.missed()} <= {*range(expired + 1)}
    assert sum(turn > expired for _, turn, _ in world.handled) >= 30 / TICK
