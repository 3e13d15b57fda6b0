"""The division of the work of one second among owners and their parties."""

from __future__ import annotations

import itertools

import pytest

from builders.dns_builders import A, asked, by_hand, record, t, wire
from builders.talk import answer
from dnstrail.dns.header import read_header
from dnstrail.image.answer import CGROUP, CLIENT
from dnstrail.image.parties import LEAST, MAX_SHARES, WORK, WorkShares, cost_of

COST = 50  # units of one response


class Second:
    """The shares of seconds: `used` is what owners may use of the present one."""

    def __init__(self) -> None:
        self.shares = WorkShares()
        self.at = 0

    def used(self, owner: int, party: int = 0, sort: str = CGROUP, host: str = "", cost: int = COST) -> int:
        """Use the units of a party until a response is beyond its part; return them."""
        mine = (host, sort, owner), (host, sort, party or owner)
        for responses in itertools.count():
            if self.shares.is_beyond(t(self.at), *mine, cost):
                return responses * cost
        raise AssertionError

    def next(self) -> None:
        """Begin the next second."""
        self.at += 1


@pytest.fixture
def second():
    return Second()


def addressed(count: int, stated: int) -> bytes:
    """Return a response with some addresses that states another number of records."""
    return by_hand(asked(wire("a.example")), *[record(b"\xc0\x0c", A, bytes(4))] * count, counts=f"1 {stated} 0")


@pytest.mark.parametrize(
    ("payload", "least", "most"),
    [
        (answer("192.0.2.1"), 1, 3),
        (addressed(250, 250), 750, 1000),
        (addressed(4000, 4000), 12_000, 16_000),
        (addressed(1, 65_535), 1, 20),
    ],
    ids=["a usual one", "250 addresses", "4,000 addresses", "more records stated than fit"],
)
def test_the_cost_of_a_response(payload, least, most):
    """Records and bytes are counted, and no more records than fit into the bytes."""
    assert least <= cost_of(read_header(payload), len(payload)) <= most


def test_an_owner_that_is_alone_has_all(second):
    """An owner without others may use all units of each second."""
    for _ in range(3):
        assert second.used(1) == WORK
        second.next()


def test_owners_have_equal_parts(second):
    """Each of two owners has half, from the second after the other one came."""
    second.used(1)
    second.used(2)
    second.next()
    assert [second.used(1), second.used(2)] == [WORK // 2] * 2


def test_an_owner_that_comes_late_has_a_small_part(second):
    """In the second in which all is used already, a further owner can still use a small part."""
    assert second.used(1) == WORK
    assert 0 < second.used(2, cost=1) <= LEAST


def test_parties_make_no_owner_larger(second):
    """An owner with 100 parties has no more than an owner with one; its parties have equal parts of it."""
    for _ in range(2):
        second.next()
        many = [second.used(1, party) for party in range(100, 200)]
        one = second.used(2)
    assert one == WORK // 2
    assert set(many) == {WORK // 200 // COST * COST}


def test_clients_take_nothing_from_owners(second):
    """However many addresses ask a server of this host, an owner on this host has half."""
    for _ in range(2):
        second.next()
        clients = sum(second.used(address, sort=CLIENT) for address in range(1, 3000))
        owner = second.used(1)
    assert owner == WORK // 2
    assert clients <= WORK


def test_a_host_takes_nothing_from_another(second):
    """However many owners a host names, another host has half."""
    for _ in range(2):
        second.next()
        named = sum(second.used(owner, host="hostile") for owner in range(1, 3000))
        other = second.used(1, host="other")
    assert other == WORK // 2
    assert named <= WORK


def test_all_owners_together_are_bounded(second):
    """In a second with more owners than in the second before, all use twice the units at most."""
    second.used(1)
    second.next()
    assert sum(second.used(owner) for owner in range(1, 3000)) <= 2 * WORK


def test_further_parties_have_one_share(second):
    """Beyond 1,024 parties of an owner, those that come later have one share together."""
    owner = ("", CGROUP, 1)
    for party in range(MAX_SHARES):
        assert not second.shares.is_beyond(t(0), owner, ("", CGROUP, party), COST)
    assert second.used(1, MAX_SHARES + 1) > 0
    assert second.used(1, MAX_SHARES + 2) == 0


def test_a_late_stamp_counts_for_the_present_second(second):
    """A stamp of an earlier second begins no second anew."""
    second.next()
    second.used(1)
    second.at -= 1
    assert second.used(1) == 0
    second.at += 1
    assert second.used(1) == 0
