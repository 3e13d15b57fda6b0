"""The naive model, sentence by sentence: relations, lives, times and lookups (docs/inside/image.md)."""

from __future__ import annotations

import pytest

from builders.dns_builders import response_to
from dnstrail.captured import FORWARDER, Flow
from model.instants import START, ns
from model.naive import NaiveModel
from model.naive_answers import ONE_BY_ONE
from model.naive_relate import stated_by
from scenarios.lives import SPOKEN, Spoken, message

AA, RA = 0x0400, 0x0080


@pytest.mark.parametrize("case", SPOKEN, ids=lambda case: case.says)
def test_a_lookup(case: Spoken) -> None:
    """A lookup after a few messages has the result that was worked out by hand."""
    model = NaiveModel(case.options.get("grace", 0))
    for stamp, payload in case.messages:
        model.feed(stamp, payload, live="live" in case.options)
    assert not case.differs(model.get(case.key, **case.instants))


def fed(model: NaiveModel, text: str, *, live: bool = False) -> NaiveModel:
    """Feed messages "SECONDS QUESTION: RECORD; RECORD"."""
    for line in text.splitlines():
        model.feed(*message(line), live=live)
    return model


RELATIONS = [
    ("a", ("a MX m", "m A 1.1.1.1"), 0, "a MX m, m A 1.1.1.1"),
    ("a", ("b A 1.1.1.1", "a CNAME b"), 0, "b A 1.1.1.1, a CNAME b"),
    ("a", ("a HTTPS 0 t", "t A 1.1.1.1"), 0, "a HTTPS t, t A 1.1.1.1"),
    ("a", ("a SVCB 1 t ipv4hint=1.1.1.1 ipv6hint=::1",), 0, "a SVCB t, t SVCB 1.1.1.1, t SVCB ::1"),
    ("a", ("a HTTPS 1 . ipv4hint=1.1.1.1",), 0, "a HTTPS 1.1.1.1"),
    ("a", ("b A 1.1.1.1",), 0, ""),
    ("a", ("a CNAME 1.1.1.1.in-addr.arpa",), 0, ""),
    ("1.1.1.1.in-addr.arpa", ("1.1.1.1.in-addr.arpa A 9.9.9.9",), 0, ""),
    ("x.in-addr.arpa PTR", ("x.in-addr.arpa PTR b",), 0, ""),
    ("a PTR", ("a PTR b",), 0, ""),
    ("a", ("a CNAME b", "b A 1.1.1.1"), AA, "a CNAME b"),
    ("a", ("a CNAME b", "b A 1.1.1.1"), AA | RA, "a CNAME b, b A 1.1.1.1"),
    ("a", ("a CNAME b", "b A 1.1.1.1"), RA, "a CNAME b, b A 1.1.1.1"),
]


@pytest.mark.parametrize(("question", "lines", "flags", "expected"), RELATIONS)
def test_relations(question: str, lines: tuple[str, ...], flags: int, expected: str) -> None:
    """A message to a forwarder states exactly these relations, in the order of its records."""
    payload = bytearray(response_to(question, *lines))
    payload[2] |= flags >> 8
    payload[3] = payload[3] & 0x7F | flags & RA
    _, stated = stated_by(bytes(payload), to_forwarder=bool(flags))
    assert ", ".join(" ".join(one.relation) for one in stated) == expected


@pytest.mark.parametrize(
    ("role", "egress", "expected"), [(FORWARDER, False, 0), (FORWARDER, True, 1), ("client", False, 1)]
)
def test_an_authority_answers_a_forwarder(role: str, egress: bool, expected: int) -> None:
    """A forwarder's answer with AA and without RA counts for the question's own name alone."""
    payload = bytearray(response_to("a", "a CNAME b", "b A 1.1.1.1", flags=AA))
    payload[3] &= 0x7F
    model = NaiveModel()
    model.feed(START, bytes(payload), flow=Flow(b"\1\1\1\1", 53, b"\n\0\0\2", 9, egress=egress, role=role))
    assert len(model.get("a")["ip_addresses"]) == expected


def repeated(seconds: list[float], ttl: int = 10, model: NaiveModel | None = None, *, live: bool = True) -> NaiveModel:
    """Feed one answer of "a" again and again."""
    text = "\n".join(f"{second} a: a A 1.1.1.1 ttl={ttl}" for second in seconds)
    return fed(model or NaiveModel(0), text, live=live)


@pytest.mark.parametrize(
    ("count", "step", "at", "met", "gap"),
    [
        pytest.param(ONE_BY_ONE, 5, 12, False, False, id="sixteen sightings are held one by one"),
        pytest.param(ONE_BY_ONE + 4, 5, 7, True, False, id="a sum without a gap"),
        pytest.param(ONE_BY_ONE + 4, 5, 40, False, False, id="after a sum"),
        pytest.param(ONE_BY_ONE + 4, 10, 12, True, True, id="a sighting at the end of the last one leaves a gap"),
        pytest.param(ONE_BY_ONE + 4, 30, 200, False, False, id="after a sum with a gap"),
    ],
)
def test_sums(count: int, step: float, at: float, met: bool, gap: bool) -> None:
    """A lookup within a sum has no exact order; with a gap it is not exact."""
    model = repeated([place * step for place in range(count)])
    instant = START + ns(at)
    assert (model.meets_a_sum("a", instant), model.meets_a_sum("a", instant, with_gap=True)) == (met, gap)
    assert not model.meets_a_sum("b", instant)


def test_a_sum_of_late_sightings_has_a_gap() -> None:
    """A record with a sum and a late sighting is exact at no past time."""
    model = repeated([*range(100, 120), 3])
    assert model.meets_a_sum("a", START + ns(50), with_gap=True)
    assert model.depends_on_sums("a", now=START + ns(125))


def test_order_by_a_sum() -> None:
    """A relation that only a sum keeps live has the last time of the sum."""
    model = fed(NaiveModel(0), "0 a: a A 1.1.1.1 ttl=900\n1 b: b A 1.1.1.1 ttl=900")
    repeated([2 + place for place in range(17)], 1, model)
    assert model.depends_on_sums("1.1.1.1", now=START + ns(500))
    assert not model.depends_on_sums("1.1.1.1", now=START + ns(950))


def test_removal_by_time() -> None:
    """An answer is removed `history` seconds after its last relation ended; `forgotten` is then this end."""
    model = fed(NaiveModel(60, history=300), "0 a: a A 1.1.1.1 ttl=10; a A 1.1.1.2 ttl=40", live=True)
    for seconds, held in ((399.9, 1), (400, 0)):
        model.advance(START + ns(seconds))
        model.sweep()
        assert len(model.held) == held
    assert model.forgotten == START + ns(100)
    assert model.places.by_root == {}
    assert model.get("a", at=START + ns(99)) is not None
