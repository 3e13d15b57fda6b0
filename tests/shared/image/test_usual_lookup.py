"""The usual lookup, by one record, never differs from the general walk.

Tests of dnstrail.image.walk.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from builders.dns_builders import response_to, t
from builders.traffic import KEYS, NAMES, message
from dnstrail.image import Bounds, Circumstances, Image
from dnstrail.image.lookup import MOST, look_up_by_walks, look_up_usual
from model.episodes import AHEAD, LATE

CHAIN = ("a CNAME b", "b CNAME c", "c A 1.1.1.1", "c A 1.1.1.2")


def both(image: Image, key: str) -> tuple[object, object]:
    """Return the results of both ways, with the root by which they were found."""
    usual = look_up_usual(image.store.graph, key, image.now, MOST)
    view = image.view()
    general = look_up_by_walks(view, image.store.places.roots, key, image.bounds.nodes)
    return usual, general


def told(*answers: tuple[str, ...], ttl: int = 60) -> Image:
    """Return an image with an answer a second; the first word of each answer is its question."""
    image = Image(Bounds(), "accept")
    for number, lines in enumerate(answers):
        image.feed(t(number), response_to(lines[0].split()[0], *(f"{line} ttl={ttl}" for line in lines)))
    return image


def simple(random: Random) -> bytes:
    """Return an answer with a chain of aliases, perhaps in a circle, that ends at some addresses."""
    names = random.choices(NAMES, k=random.randint(1, 4))
    aliases = [f"{owner} CNAME {target} ttl=60" for owner, target in pairwise(names)]
    addresses = random.sample(
        ("A 1.1.1.1", "A 1.1.1.2", "AAAA 2001:db8::1", "AAAA ::ffff:1.1.1.1"), random.randint(0, 3)
    )
    return response_to(names[0], *aliases, *(f"{names[-1]} {address} ttl=60" for address in addresses))


def test_any_usual_lookup_equals_the_general_walk() -> None:
    """After any messages, late and doubted ones too, each key that has a usual result has the general one."""
    seen: Counter[bool] = Counter()
    for seed in range(150):
        random = Random(seed)
        image, clock = Image(Bounds(grace=random.choice((0.0, 60.0))), random.choice(("accept", "auto"))), t(0)
        image.gap(clock)
        late = random.choice((LATE, (0,)))
        few = [message(random), simple(random), simple(random)]
        for _ in range(random.choice((3, 6, 20))):
            clock += random.choice(AHEAD)
            payload = random.choice(few) if random.random() < 0.8 else message(random)
            image.feed(clock - random.choice(late), payload, Circumstances(live=seed % 2 == 0))
            for key in KEYS:
                usual, general = both(image, key)
                seen[usual is not None] += 1
                assert usual is None or usual == general, (seed, key)
    assert seen[True] > 500


@pytest.mark.parametrize("key", ["a", "b", "c", "1.1.1.1", "1.1.1.2"])
def test_every_node_of_a_chain_is_usual(key: str) -> None:
    """One answer with aliases and addresses gives usual lookups of all its nodes."""
    usual, general = both(told(CHAIN), key)
    assert usual is not None
    assert usual == general


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        (("a MX c", "a MX b", "a SRV b"), "a"),
        (("a CNAME b", "b A 1.1.1.1", "b MX d"), "a"),
        (("a CNAME b", "b MX d"), "d"),
        (("a A 1.1.1.1", "a AAAA ::ffff:1.1.1.1"), "a"),
        (("1.1.1.1.in-addr.arpa PTR y", "1.1.1.1.in-addr.arpa PTR x"), "1.1.1.1"),
    ],
)
def test_services_mapped_addresses_and_reverse_records_are_usual(lines: tuple[str, ...], key: str) -> None:
    """A record with services behind which nothing is, with one address in two forms, or with PTR relations is usual."""
    usual, general = both(told(lines), key)
    assert usual is not None
    assert usual == general


@pytest.mark.parametrize(
    ("answers", "key"),
    [
        ((("a CNAME b", "b CNAME b"),), "a"),
        ((("a CNAME a", "a A 1.1.1.1"),), "a"),
        ((("a CNAME b", "b CNAME a"),), "b"),
        ((("a A 1.1.1.1", "a CNAME b", "b A 1.1.1.1"),), "a"),
        ((("a CNAME b", "a CNAME c", "b A 1.1.1.1"),), "1.1.1.1"),
        ((("a MX b", "b A 1.1.1.1"),), "a"),
        ((("a MX a", "a A 1.1.1.1"),), "a"),
        ((("a MX b",), ("b A 1.1.1.1",)), "a"),
        ((("a HTTPS 0 b",),), "a"),
        ((("a A 1.1.1.1",), ("b CNAME a",)), "a"),
        ((("a A 1.1.1.1",), ("b CNAME a",)), "1.1.1.1"),
        ((CHAIN, ("b CNAME d", "d A 1.1.1.9")), "a"),
        ((CHAIN, ("c A 1.1.1.9",)), "a"),
        ((CHAIN, ("d CNAME b",)), "1.1.1.1"),
        ((CHAIN, ("d CNAME b",)), "c"),
        ((("1.1.1.1.in-addr.arpa PTR x",), ("a A 1.1.1.1",)), "1.1.1.1"),
        ((tuple(f"a A 1.1.1.{number}" for number in range(17)),), "a"),
    ],
)
def test_a_lookup_that_is_not_usual_is_left_to_the_general_walk(answers: tuple[tuple[str, ...], ...], key: str) -> None:
    """Circles, branches, other kinds, a second record at a node of the walk, and long records are not usual."""
    image = told(*answers)
    usual, general = both(image, key)
    assert usual is None
    assert image.get(key) == general[0]


def test_a_relation_in_its_grace_is_not_usual() -> None:
    """The state is left to the general walk if a relation of the record lives by its grace."""
    image = told(("a A 1.1.1.1",), ttl=5)
    for now, is_usual in ((4, True), (5, False)):
        image.advance(t(now))
        usual, general = both(image, "a")
        assert (usual is not None) is is_usual
        assert general[0].state == ("live" if is_usual else "grace")


def test_the_bounds_hold_for_usual_lookups() -> None:
    """A usual lookup reads no more relations than a lookup may, and its result has no more nodes."""
    for bounds in (Bounds(nodes=3), Bounds(walked=3)):
        image = Image(bounds, "accept")
        image.feed(t(0), response_to("a", *(f"{line} ttl=60" for line in CHAIN)))
        assert image.get("a").truncated


def test_usual_lookups_of_a_request_share_its_budget() -> None:
    """In one `get_many` the relations of usual lookups count, too."""
    image = Image(Bounds(walked=8), "accept")
    for number in range(4):
        image.feed(
            t(number), response_to(f"n{number}", *(f"n{number} A 1.1.{number}.{one} ttl=60" for one in range(3)))
        )
    found = image.get_many([f"n{number}" for number in range(4)])
    assert [one.truncated for one in found] == [False, False, True, True]
