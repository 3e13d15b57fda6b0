"""The work of one lookup and of one sweep is bounded: it is counted in relations and in calls, not in seconds."""

from __future__ import annotations

from builders.costly import calls_in
from builders.dns_builders import t
from builders.interpreted import INTERPRETED
from builders.talk import answer
from dnstrail.image import Bounds, Image
from dnstrail.image.lookup import look_up

DAY = 86_400
ADDRESS = "1.1.1.1"


def named(count: int, walked: int = 65_536) -> Image:
    """Return an image with one address of many names, the last name the newest."""
    image = Image(Bounds(size=10_000, walked=walked))
    for number in range(count):
        image.feed(t(number / 1000), answer(ADDRESS, name=f"n{number}", ttl=DAY))
    return image


def test_a_lookup_walks_a_bounded_number_of_relations() -> None:
    """A lookup reads as many relations as its bound, the newest first, and is then truncated."""
    for walked, truncated in ((1000, False), (30, True)):
        image = named(100, walked)
        found = image.get(ADDRESS)
        assert found.truncated is truncated
        assert found.dns_queries[:20] == [f"n{number}" for number in range(99, 79, -1)]
        assert (len(found.dns_queries) == 100) is not truncated
        view = image.view()
        look_up(view, image.store.places.roots, ADDRESS, image.bounds.nodes)
        assert view.budget >= -1


@INTERPRETED
def test_many_spellings_of_a_crowded_address_are_one_lookup() -> None:
    """Of 1,000 spellings of an address with 9,000 names, `get_many` looks up one, within the work of one lookup."""
    image = named(9000)
    spellings = [" " * number + ADDRESS for number in range(998)]
    views = []
    view_of = image.view
    image.view = lambda **times: views.append(view_of(**times)) or views[-1]
    results = image.get_many([*spellings, "::ffff:1.1.1.1", "1.1.1.1.in-addr.arpa"])
    assert len(results) == 1000
    assert all(one is results[0] for one in results)
    assert (len(results[0].dns_queries), results[0].truncated) == (4096, True)
    [view] = views
    assert view.budget >= image.bounds.walked - 2 * 4100 - 64


def test_the_keys_of_a_request_share_one_budget() -> None:
    """Different keys of one `get_many` walk no more than one lookup may; each reads its newest relations at least."""
    image = named(100, 150)
    image.feed(t(1), answer("1.1.1.2", name="z"))
    first, second, third = image.get_many([ADDRESS, "n5", "1.1.1.2"])
    assert (first.truncated, first.dns_root) == (False, "n99")
    assert (second.dns_root, third.dns_root) == ("n5", "z")


@INTERPRETED
def test_a_sweep_compares_the_ends_of_a_root_once() -> None:
    """The deadlines of 1,000 ended records of one root, which a live one holds, take a sweep some calls each."""
    image = Image(Bounds(grace=0, history=0))
    for number in range(1000):
        image.feed(t(number / 1000), answer(f"1.1.{number // 250}.{number % 250}", name="n", ttl=1))
    image.feed(t(1), answer(ADDRESS, name="n", ttl=DAY))
    image.advance(t(10))
    assert calls_in(lambda: image.sweep(1000)) < 20 * 1000
    assert image.get("n").ip_addresses == [ADDRESS]


def test_a_root_ends_with_its_longest_record() -> None:
    """A root ends when its last relation does, also if the record that lasted longest was evicted."""
    image = Image(Bounds(size=2, grace=0, history=0, owned=2))
    image.feed(t(0), answer("1.1.1.1", name="n", ttl=DAY))
    image.feed(t(1), answer("1.1.1.2", name="n", ttl=5))
    image.feed(t(2), answer("1.1.1.9", name="m", ttl=DAY))
    image.advance(t(8))
    image.sweep(9)
    assert image.roots() == ["n", "m"]  # none has ended: "n" was used first
    image.get("n")
    assert image.roots() == ["m", "n"]
    image.feed(t(9), answer("1.1.1.3", name="n", ttl=5))  # evicts the record of a day
    assert image.roots() == ["m", "n"]
    image.advance(t(20))
    assert image.roots() == ["n", "m"]  # "n" has ended
