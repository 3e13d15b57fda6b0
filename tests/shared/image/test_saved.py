"""Records out of an image and into another one: every lookup finds what it found before."""

from __future__ import annotations

import random

import msgspec
import pytest

from builders.dns_builders import SECOND, response_to, t
from dnstrail.captured import Process
from dnstrail.image import Bounds, Circumstances, Image
from dnstrail.image.record import MAX_SIGHTINGS
from dnstrail.image.saved import SavedRecord, restore, saved_records

NAMES = [f"{letter}.example" for letter in "abcd"]
ADDRESSES = [f"192.0.2.{number}" for number in range(1, 4)]
BOUNDS = Bounds(grace=5, history=30)


def fed(seed: int, messages: int = 500) -> tuple[Image, int]:
    """Return an image of random answers, many of them repeated, and the time of the last one."""
    chance, image, now = random.Random(seed), Image(BOUNDS), t()
    for _ in range(messages):
        now += chance.choice([0, SECOND // 20, SECOND // 4])
        name, address = chance.choice(NAMES), chance.choice(ADDRESSES)
        kind = chance.choice(["A", "A", "CNAME", "MX", "PTR"])
        if kind == "PTR":
            last = address.rpartition(".")[2]
            payload = response_to(f"{last}.2.0.192.in-addr.arpa PTR", f"{last}.2.0.192.in-addr.arpa PTR {name}.")
        elif kind == "A":
            payload = response_to(
                name, f"{name} A {address}", f"{name} A {ADDRESSES[0]}", ttl=chance.choice([0, 3, 60])
            )
        else:
            payload = response_to(f"{name} {kind}", f"{name} {kind} {chance.choice(NAMES)}.", ttl=chance.choice([0, 9]))
        process = Process(chance.randrange(1, 3), "app", cgroup_id=chance.randrange(1, 3), owner=chance.choice((0, 9)))
        image.feed(now - chance.choice([0, SECOND]), payload, Circumstances(process=process, live=True))
        image.advance(now)
        image.sweep(10)
    return image, now


def moved(image: Image, now: int, difference: int = 0, bounds: Bounds = BOUNDS) -> Image:
    """Return a new image of the saved records of another one."""
    saved = [record for root in image.roots() for record in saved_records(image, root, difference)]
    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(saved), type=list[SavedRecord])
    new = Image(bounds)
    new.live = True
    new.advance(now)
    restore(new, wire, -difference)
    return new


def shares(image: Image) -> dict[str, object]:
    """Return the party and the owner of each root."""
    return {root.name: root.party.key for root in image.store.places}


def answers(image: Image, now: int) -> list[object]:
    """Return what lookups find now and until all relations have ended."""
    found: list[object] = []
    for later in (0, 2, 7, 30, 70):
        found += [image.get(key, now=now + later * SECOND) for key in NAMES + ADDRESSES]
        found += [image.trails(key, now=now + later * SECOND) for key in NAMES + ADDRESSES]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_lookups_find_the_same_after_a_restart(seed):
    """A new image of the saved records gives the same results and trails, sums and order included."""
    image, now = fed(seed)
    assert any(record.total for root in image.store.places for record in root.records())
    new = moved(image, now)
    assert answers(new, now) == answers(image, now)
    assert len(new) == len(image)
    assert new.store.places.relations == image.store.places.relations
    assert shares(new) == shares(image)


@pytest.mark.parametrize("seed", range(5))
def test_lookups_of_the_past_find_the_same(seed):
    """As of a past time that no sum covers, lookups find the same; the samples of a sum are not saved."""
    image, now = fed(seed)
    new = moved(image, now)
    for ago in range(10):
        at = now - ago * SECOND
        before, after = ([one.get(key, at=at) for key in NAMES] for one in (image, new))
        known = [found and msgspec.structs.replace(found, history=True) for found in before]
        assert [found and msgspec.structs.replace(found, history=True) for found in after] == known


def test_new_answers_go_on():
    """An answer after the restart joins its record, and arrived last."""
    image, now = fed(1)
    new = moved(image, now)
    for one in (image, new):
        one.feed(now, response_to(NAMES[0], f"{NAMES[0]} A {ADDRESSES[0]}"), Circumstances(live=True))
    assert answers(new, now) == answers(image, now)
    assert new.store.answers >= image.store.answers - 1


def test_times_are_wall_times():
    """A clock that differs from wall time is shifted on the way out and in."""
    image, now = fed(2)
    assert answers(moved(image, now, difference=3600 * SECOND), now) == answers(image, now)


def test_expired_records_are_skipped():
    """A record that would have been removed by now is not restored, and `forgotten` shows it."""
    image, now = fed(3)
    later = now + 1000 * SECOND
    new = moved(image, later)
    assert len(new) == 0
    assert new.forgotten is not None
    assert now < new.forgotten < later


def test_nothing_lives_longer_after_a_step_of_the_clock():
    """If the wall clock was set back meanwhile, answers count as of now, and not in the future."""
    image = Image(BOUNDS)
    image.feed(t(), response_to("a.example", "a.example A 192.0.2.1", ttl=60), Circumstances(live=True))
    new = moved(image, t(-3600))
    assert new.get("a.example", now=t(-3600) + 64 * SECOND) is not None
    assert new.get("a.example", now=t(-3600) + 66 * SECOND) is None


def test_bounds_hold():
    """A smaller image keeps its bounds, and the roots that were answered last."""
    image, now = fed(4)
    new = moved(image, now, bounds=Bounds(size=2, grace=5, history=30))
    assert len(new) == 2
    assert new.counters["evicted_roots"] > 0


def saved_one() -> dict:
    """Return a record with a sum, as plain values."""
    image = Image(BOUNDS)
    for number in range(MAX_SIGHTINGS + 3):
        image.feed(t(number), response_to("a.example", "a.example A 192.0.2.1"), Circumstances(live=True))
    (record,) = saved_records(image, "a.example", 0)
    return msgspec.to_builtins(record, builtin_types=[bytes])


def changed(**values):
    return {**saved_one(), **values}


def with_answer(**values):
    one = saved_one()
    return {**one, "answers": [*one["answers"][:-1], {**one["answers"][-1], **values}]}


HOSTILE = {
    "no edges": changed(edges=[]),
    "a kind that makes no relation": changed(edges=[["a", 16, "b"]]),
    "an edge twice": changed(edges=[["a", 1, "1.1.1.1"], ["a", 1, "1.1.1.1"]]),
    "reverse and forward": changed(edges=[["1.1.1.1", 12, "a"], ["a", 1, "1.1.1.1"]]),
    "no answers": changed(answers=[], total=None),
    "too many answers": changed(answers=saved_one()["answers"] * 2, total=None),
    "answers out of order": changed(answers=saved_one()["answers"][::-1], total=None),
    "a sum without its answers": changed(answers=saved_one()["answers"][:3]),
    "a sum of other edges": changed(total={**saved_one()["total"], "ends": []}),
    "lives of other edges": with_answer(lives=[1, 2]),
    "an endless life": with_answer(lives=[1 << 60]),
    "a negative life": with_answer(lives=[-1]),
    "a time beyond all times": with_answer(stamp=1 << 70),
    "no question": changed(question=""),
    "a long name": changed(question="x" * 2000),
    "a party that is none": changed(party=["x"]),
    "another type": changed(doubted="yes"),
}


@pytest.mark.parametrize("values", HOSTILE.values(), ids=HOSTILE)
def test_values_that_contradict_each_other_are_refused(values):
    """A record that no image can have saved is refused when it is read."""
    assert msgspec.convert(saved_one(), SavedRecord)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(values, SavedRecord)


def test_hostile_times_break_nothing():
    """Times far away, ahead or behind, leave an image that works."""
    for stamp in (-(1 << 62), 0, 1 << 62):
        image = Image(BOUNDS)
        image.live = True
        image.advance(t())
        restore(image, [msgspec.convert(with_answer(stamp=stamp, noted=stamp), SavedRecord)], 0)
        image.feed(t(1), response_to("a.example", "a.example A 192.0.2.1"), Circumstances(live=True))
        assert image.get("a.example") is not None
        image.advance(t(10**6))
        image.sweep(1000)
        assert len(image) == 0
