"""Trails: the paths from questions to a key."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dns_builders import T, response_to, t
from builders.traffic import KEYS, message
from builders.trail_helpers import Asked, in_words, to_client
from dnstrail.image import Bounds, Circumstances, Image
from dnstrail.image.trails import path
from dnstrail.image.trails.path import MAX_STEPS
from dnstrail.image.trails.trail import MAX_TRAILS, Step, Trails
from scenarios.trail_cases import CASES, Answered


def fed(answers: tuple[Answered, ...]) -> Asked:
    asked = Asked()
    for one in answers:
        asked.answer(one.after, one.question, *one.records.split("; "), ttl=one.ttl)
    return asked


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_trails_of_a_key(case):
    """Each question that leads to a key has one trail with its steps and its state; the first is no rival."""
    trails = fed(case.answers).trails(case.key, case.after).trails
    assert tuple(in_words(trail) for trail in trails) == case.expected
    assert [trail.rival for trail in trails] == [place > 0 for place in range(len(case.expected))]


def test_steps_have_age_and_remaining_life():
    """Each step has its age and its remaining life in seconds, and the number of its sightings."""
    asked = Asked(grace=60).answer(0, "a", "a CNAME b ttl=100", "b A 1.1.1.1 ttl=10")
    asked.answer(20, "a", "a CNAME b ttl=10")
    (trail,) = asked.trails("1.1.1.1", 30).trails
    assert trail.steps == [
        Step("a", "CNAME", "b", age=10.0, remaining=70.0, count=2, state="live"),
        Step("b", "A", "1.1.1.1", age=30.0, remaining=-20.0, count=1, state="grace"),
    ]
    assert (trail.first_seen, trail.last_seen) == (T, T)


def test_expired_trails_last_as_long_as_the_history():
    """An expired trail is reported until the history has passed, and not afterwards."""
    for after, known in ((375 - 0.001, True), (375, False)):
        asked = Asked(grace=60, history=300).answer(0, "a", ttl=15, live=True)
        asked.answer(after, "z", "z A 9.9.9.9", live=True).image.sweep(1000)
        assert (asked.find("1.1.1.1") is not None) is known


@pytest.mark.parametrize("key", ["zz", "9.9.9.9", "", ".", "a..b", "\x00", "x" * 300, "in-addr.arpa"])
def test_other_keys_have_no_trails(key):
    """A key that nothing touches, and a text that is no key, has no trails."""
    assert Asked().answer(0, "a").find(key) is None


def test_past_trails_are_as_of_then():
    """Trails with `at` contain only what was received by then: paths, answers, counts and lives."""
    asked = Asked().answer(0, "a", ttl=10).answer(5, "a", ttl=10).answer(6, "b")
    for live in (True, False):
        image = Image(Bounds())
        for after, name in ((0, "a"), (5, "a"), (6, "b")):
            image.feed(t(after), response_to(name, f"{name} A 1.1.1.1", ttl=10), Circumstances(to_client(), live=live))
        found = image.trails("1.1.1.1", at=t(4))
        assert found is not None
        assert [in_words(trail) for trail in found.trails] == ["a: A 1.1.1.1 (live)"]
        (trail,) = found.trails
        assert (trail.steps[0].age, trail.steps[0].remaining, trail.steps[0].count) == (4.0, 6.0, 1)
        assert [(one.last_seen, one.count) for one in trail.asked] == [(T, 1)]
        assert trail.reasons == ["last answered 4.000 s before"]
        assert found.history
    assert asked.image.trails("1.1.1.1", at=t(-1)) is None


def test_past_trails_are_in_the_order_of_then():
    """Trails with `at` know the last question of that time, not a later answer to another."""
    asked = Asked().answer(0, "a").answer(5, "b").answer(10, "a")
    for after, order in ((7, ["b", "a"]), (10, ["a", "b"])):
        found = asked.image.trails("1.1.1.1", at=t(after))
        assert found is not None
        assert [trail.dns_root for trail in found.trails] == order


def test_past_trails_know_a_sum():
    """A trail with `at` within the sum of older answers has no askers: it states so, and the last answer until then."""
    asked = Asked()
    for number in range(20):
        asked.answer(number, "a")
    found = asked.image.trails("1.1.1.1", at=t(2))
    assert found is not None
    (trail,) = found.trails
    assert (trail.asked, trail.first_seen, trail.last_seen, trail.state) == ([], T, T + 2, "live")
    assert found.history is False
    assert trail.steps[0].age == 0


def test_a_past_within_a_gap_has_no_history():
    """Trails with `at` have no history if older answers of the relation had ended before others came."""
    asked = Asked(grace=0).answer(0, "a", ttl=1)
    for number in range(20):
        asked.answer(10 + number, "a", ttl=5)
    found = asked.image.trails("1.1.1.1", at=t(5))
    assert found is not None
    assert found.history is False
    found = asked.image.trails("1.1.1.1", at=t(29))
    assert found is not None
    assert found.history is True


def test_a_path_is_live_by_any_answer_to_its_question():
    """A path over the later answer to a question is live, although the answer that states the address has ended."""
    asked = Asked(grace=0).answer(0, "a", ttl=5).answer(10, "a", "a CNAME b").answer(11, "b", "b A 1.1.1.1")
    assert [in_words(trail) for trail in asked.trails("1.1.1.1").trails] == [
        "b: A 1.1.1.1 (live)",
        "a: CNAME b, A 1.1.1.1 (live)",
    ]


def test_trails_are_bounded():
    """At most MAX_TRAILS trails are reported, the likeliest, and then `truncated` is set."""
    asked = Asked()
    for number in range(MAX_TRAILS + 1):
        asked.answer(number, f"n{number}")
    found = asked.trails("1.1.1.1")
    assert (len(found.trails), found.truncated) == (MAX_TRAILS, True)
    assert found.trails[0].dns_root == f"n{MAX_TRAILS}"
    few = Asked().answer(0, "a").trails("1.1.1.1")
    assert few.truncated is False


def test_the_paths_of_a_crowded_address_are_bounded(monkeypatch):
    """Of more questions than the bound the last answered ones are ranked, and `truncated` is set."""
    monkeypatch.setattr(path, "MAX_PATHS", 3)
    asked = Asked()
    for number in range(4):
        asked.answer(number, f"n{number}", f"n{number} A 1.1.1.1")
    found = asked.trails("1.1.1.1")
    assert ([trail.dns_root for trail in found.trails], found.truncated) == (["n3", "n2", "n1"], True)
    assert Asked().answer(0, "a").trails("1.1.1.1").truncated is False


def test_endless_aliases_are_cut():
    """Questions more than MAX_STEPS aliases from the key are left out, and then `truncated` is set."""
    names = [f"n{number}" for number in range(MAX_STEPS + 2)]
    asked = Asked()
    for owner, target in pairwise(names):
        asked.answer(0, owner, f"{owner} CNAME {target}")
    found = asked.trails(names[-1])
    assert max(len(trail.steps) for trail in found.trails) == MAX_STEPS
    assert (names[0] in {trail.dns_root for trail in found.trails}, found.truncated) == (False, True)


def test_names_past_the_bound_are_cut():
    """If more names lead to a key than the bound on nodes, `truncated` is set."""
    asked = Asked(nodes=3)
    for name in "abcdef":
        asked.answer(0, name)
    found = asked.trails("1.1.1.1")
    assert found.truncated
    assert 1 <= len(found.trails) <= 4


def fed_at_random(random: Random, count: int) -> tuple[Image, int]:
    """Return an image after some random messages, and a time soon after."""
    image, after = Image(Bounds(size=10**6)), 0
    for _ in range(count):
        after += random.choice((0, 0, 1, 5, 40, 100))
        image.feed(t(after), message(random))
    return image, t(after + random.choice((0, 1, 30, 61, 200)))


def assert_chain(found: Trails, image: Image, now: int) -> None:
    """Assert that every live trail consists of live relations that lead from the question to the key."""
    for trail in found.trails:
        if trail.state == "expired" or any(step.kind == "PTR" for step in trail.steps):
            continue
        for step in trail.steps:
            result = image.get(step.owner, now=now)
            assert result is not None
            assert step.target in (*result.ip_addresses, *result.dns_queries)
        nodes = [trail.dns_root, *(step.target for step in trail.steps)]
        assert [step.owner for step in trail.steps] == nodes[:-1]
        assert nodes[-1] == found.key
        assert len(set(nodes)) == len(nodes)


@given(st.integers(0, 10**9), st.integers(1, 25))
def test_live_trails_are_the_questions_behind_a_lookup(seed, count):
    """Live trails are complete, and their questions are names of a lookup that lead to the key.

    The root of a lookup always has a trail, if only an expired one, and a key that a lookup finds has trails.
    """
    image, now = fed_at_random(Random(seed), count)
    of_roots = {name: image.get(name, now=now) for name in image.roots()}
    for key in KEYS:
        trails, get = image.trails(key, now=now), image.get(key, now=now)
        if get is None:
            assert trails is None or all(trail.state == "expired" for trail in trails.trails)
            continue
        assert trails is not None
        assert_chain(trails, image, now)
        forward = [trail for trail in trails.trails if all(step.kind != "PTR" for step in trail.steps)]
        roots = {trail.dns_root for trail in forward if trail.state != "expired"}
        assert roots <= set(get.dns_queries)
        assert get.dns_root in {"", *(trail.dns_root for trail in forward)}
        for name, result in of_roots.items():
            if name != trails.key and result and result.dns_root == name and trails.key in result.ip_addresses:
                assert name in roots
        states = [trail.state == "expired" for trail in forward]
        assert states == sorted(states)
