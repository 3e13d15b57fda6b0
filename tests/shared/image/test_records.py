"""Records: the answers of one root that state the same relations, held one by one and as a sum.

Tests of dnstrail.image.graph.
"""

from __future__ import annotations

from itertools import pairwise, permutations
from random import Random

import pytest

from builders.dns_builders import SECOND, response_to, t
from builders.talk import Talk, answer
from dnstrail.image import Bounds, Circumstances, Image
from dnstrail.image.record import MAX_SAMPLES, MAX_SIGHTINGS, Record

ADDRESS = "1.1.1.1"
ANSWERS = [
    ["a CNAME h", "h A 1.1.1.1"],
    ["b A 1.1.1.1"],
    ["c CNAME a", "a CNAME h", "h A 1.1.1.1"],
    ["d A 1.1.1.1", "d A 1.1.1.2"],
    ["e MX 10 b"],
]


def repeated(*afters: float, ttl: int = 10, grace: float = 0, live: bool = True) -> Image:
    """Return an image after the same answer, time and again."""
    image = Image(Bounds(grace=grace))
    for after in afters:
        image.feed(t(after), response_to("a", f"a A {ADDRESS}", ttl=ttl), Circumstances(live=live))
    return image


def records(image: Image, root: str = "a") -> list[Record]:
    """Return the records of a root."""
    return image.store.places.roots[root].records()


def step(image: Image, now: int | None = None, at: int | None = None) -> tuple[int, float]:
    """Return the number of answers that state the relation, and the time since the last."""
    found = image.trails(ADDRESS, now=now, at=at)
    assert found is not None
    return found.trails[0].steps[0].count, found.trails[0].steps[0].age


def test_any_order_and_any_ttls_form_one_record() -> None:
    """The same relations in any order and with any TTLs form one record; each answer keeps its own lives."""
    image = Image(Bounds(grace=0))
    lines = [("a A 1.1.1.1", 10), ("a A 1.1.1.2", 20), ("a A 1.1.1.3", 30)]
    for number, order in enumerate(permutations(lines)):
        records_ = [f"{line} ttl={ttl + number}" for line, ttl in order]
        image.feed(t(0), response_to("a", *records_))
    assert [len(list(record.sightings())) for record in records(image)] == [6]
    for address, end in (("1.1.1.1", 15), ("1.1.1.2", 25), ("1.1.1.3", 35)):
        assert image.get(address, now=t(end) - 1) is not None
        assert image.get(address, now=t(end)) is None


def test_other_relations_form_another_record() -> None:
    """An answer with one relation more or less is another record of the same root."""
    image = Image()
    for lines in (["a A 1.1.1.1"], ["a A 1.1.1.1", "a A 1.1.1.2"], ["a A 1.1.1.1"]):
        image.feed(t(0), response_to("a", *lines))
    assert [(len(record.edges), len(list(record.sightings()))) for record in records(image)] == [(2, 1), (1, 2)]
    assert (len(image), image.store.places.relations) == (1, 3)


def test_the_newest_answers_are_held_one_by_one() -> None:
    """The newest 16 answers of a record are held one by one, and the older ones as a sum; all of them are counted."""
    image = repeated(*range(40))
    [record] = records(image)
    assert (MAX_SIGHTINGS, len(list(record.sightings()))) == (16, 16)
    assert (record.total.count, record.total.first, record.total.stamp) == (24, t(0), t(23))
    assert (record.total.ends, record.total.gap) == ([t(33)], False)
    assert step(image, now=t(40)) == (40, 1.0)
    trail = image.trails(ADDRESS, now=t(40)).trails[0]
    assert (trail.first_seen, trail.last_seen) == (t(0) / 1e9, t(39) / 1e9)


def test_a_sum_without_a_gap_is_exact_about_lives() -> None:
    """Without a gap the past within the sum is known: live from the first answer on, and before it nothing."""
    image = repeated(*(10 * number for number in range(40)), ttl=11)
    assert image.get(ADDRESS, at=t(0) - 1) is None
    for after in (0, 5, 99, 200, 390):
        found = image.get(ADDRESS, at=t(after))
        assert (found.ip_addresses, found.history) == ([ADDRESS], True)


@pytest.mark.parametrize("gap_at", [1, 10, 23])
def test_a_sum_with_a_gap_says_so(gap_at: int) -> None:
    """With a gap the past within the sum has no history; after the sum it has."""
    afters = [10 * number + (100 if number >= gap_at else 0) for number in range(40)]
    image = repeated(*afters, ttl=11)
    assert records(image)[0].total.gap
    assert image.get(ADDRESS, at=t(0) - 1) is None
    found = image.get(ADDRESS, at=t(5))
    assert (found.ip_addresses, found.history) == ([ADDRESS], False)
    assert image.get(ADDRESS, at=t(afters[24])).history is True
    assert image.get(ADDRESS).history is True


def alternating(names: list[str], afters: list[float]) -> Image:
    """Return an image after answers to these names, in turn, with one address."""
    image = Image(Bounds(grace=0))
    for name, after in zip(names, afters, strict=True):
        image.feed(t(after), response_to(name, f"{name} A {ADDRESS}", ttl=60), Circumstances(live=True))
    return image


def test_a_past_within_a_sum_has_the_root_and_the_order_of_then() -> None:
    """A lookup within two sums has the name that was answered last by then as its root, and the other one after it."""
    names = ["a", "b"] * 40
    image = alternating(names, [*range(80)])
    for after in range(1, 80):
        last = names[after]
        expected = (["a", "b"] if last == "a" else ["b", "a"], last, True)
        for found in (image.get(ADDRESS, at=t(after)), image.get(ADDRESS, at=t(after + 1) - 1)):
            assert (found.dns_queries, found.dns_root, found.history) == expected, after


def test_a_past_between_two_samples_has_no_history_where_it_matters() -> None:
    """Where the last answers of two long sums may lie in either order, `history` is false; else the result is right."""
    names = ["a", "b"] * 400
    image = alternating(names, [*range(800)])
    histories = []
    for after in range(1, 800):
        found = image.get(ADDRESS, at=t(after))
        histories.append(found.history)
        assert not found.history or found.dns_root == names[after], after
    assert histories[-30:] == [True] * 30
    assert False in histories
    image = alternating(["a"] * 400, [*range(400)])
    alone = [image.get(ADDRESS, at=t(after)) for after in range(400)]
    assert all(found.history and found.dns_queries == ["a"] for found in alone), "nothing else was answered"


def test_a_sum_holds_a_bounded_number_of_samples() -> None:
    """Of a sum of any length at most 64 answers are samples, the first one among them, spread over all of it."""
    for count in (17, 80, 81, 1000, 5000):
        [record] = records(repeated(*range(count)))
        samples = [(one.stamp - t(0)) // SECOND for one in record.total.samples()]
        assert len(samples) <= MAX_SAMPLES
        assert samples == sorted(samples)
        assert samples[0] == 0
        assert record.total.whole is (count <= MAX_SIGHTINGS + MAX_SAMPLES)
        distances = {later - earlier for earlier, later in pairwise(samples)}
        assert len(distances) <= 1


@pytest.mark.parametrize("seed", range(12))
def test_a_lookup_is_answered_again_as_then(seed: int) -> None:
    """Over many answers with changing TTLs, a lookup with the `at` of an earlier one finds the same, or says so."""
    chance, image, now = Random(seed), Image(Bounds(grace=(seed % 3) * 5, history=10**6)), 0.0
    ttls = chance.choice(((10,), (3, 10), (1, 5, 30), (300,)))
    answers, asked = chance.sample(ANSWERS, 4), []
    for _ in range(chance.choice((100, 400, 800))):
        now += chance.choice((0.01, 0.1, 0.5, 1, 2))
        lines = [f"{line} ttl={chance.choice(ttls)}" for line in chance.choice(answers)]
        image.feed(t(now), response_to(lines[0].split()[0], *lines), Circumstances(live=seed % 2 == 0))
        image.advance(t(now))
        key = chance.choice((ADDRESS, "a", "h", "b", "d"))
        asked.append((key, image.now, image.get(key, at=image.now)))
    for key, at, then in asked:
        again = image.get(key, at=at)
        known = all(one is None or one.history for one in (then, again))
        assert again == then or not known, (key, at)


def test_an_answer_at_the_end_of_the_grace_leaves_a_gap() -> None:
    """Answers follow each other without a gap only if each comes before the end of those before it."""
    for distance, gap in ((14.9, False), (15, True)):
        image = repeated(*(distance * number for number in range(20)), ttl=10, grace=5)
        assert records(image)[0].total.gap is gap, distance


def test_each_relation_may_leave_the_gap() -> None:
    """A relation that ended between two answers leaves a gap, although another one of them was live."""
    image = Image(Bounds(grace=0))
    for number in range(20):
        image.feed(t(10 * number), response_to("a", "a A 1.1.1.1 ttl=300", "a A 1.1.1.2 ttl=5"))
    assert records(image)[0].total.gap
    assert image.get("1.1.1.2", at=t(12)).history is False


def test_answers_out_of_order_leave_a_gap() -> None:
    """With stamps out of order the sum does not claim to know the past."""
    image = repeated(5, 0, *range(10, 40), ttl=60)
    assert records(image)[0].total.gap


def test_a_sum_lives_as_long_as_its_longest_answer() -> None:
    """A relation is live by an answer of the sum with a longer life than the newest answers have."""
    image = repeated(0, ttl=1000)
    for after in range(1, 20):
        image.feed(t(after), response_to("a", f"a A {ADDRESS}", ttl=1), Circumstances(live=True))
    assert image.get(ADDRESS, now=t(1000) - 1).ip_addresses == [ADDRESS]
    assert image.get(ADDRESS, now=t(1000)) is None


def test_a_sum_is_removed_with_its_record() -> None:
    """The sum goes with the last answer of its record, and is forgotten then."""
    image = repeated(*range(30))
    image.advance(t(29 + 10 + 300))
    image.sweep(100)
    assert (len(image), image.forgotten) == (0, t(39))


def test_doubt_divides_the_sums() -> None:
    """Answers that are doubted never enter the sum of answers that are not."""
    talk = Talk()
    talk.image.gap(t(0), cgroup=1)
    for number in range(20):
        talk.ask(number, cgroup=1)
        talk.hear(number + 0.1, answer(ttl=60 + number), cgroup=1)
        talk.hear(number + 0.2, answer(ttl=80 + number), cgroup=1)
    found = {record.doubted: record.total.count for record in records(talk.image, "a.example")}
    assert found == {False: 4, True: 4}


def test_an_address_has_its_place_in_the_last_of_equally_fresh_answers():
    """Two relations lead to one address, and two answers of the same time state one of them: the last answer counts."""
    image = Image(Bounds(), "accept")
    image.feed(t(0), response_to("a", "a A 1.1.1.1 ttl=60"))
    image.feed(
        t(0), response_to("a", *(f"a {line} ttl=60" for line in ("A 1.1.1.2", "AAAA ::ffff:1.1.1.1", "A 1.1.1.1")))
    )
    assert image.get("a").ip_addresses == ["1.1.1.2", "1.1.1.1"]
