"""The past of real captures: what was answered while they played is answered again with the `at` of then."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from builders.corpus import CAPTURES, CORPUS, WHOLE_CORPUS, events_of, needs_corpus, touched_by
from dnstrail.events import EFFECTS
from dnstrail.image import Bounds, Image, LookupResult
from dnstrail.image.apply import apply_event

pytestmark = [
    *needs_corpus,
    pytest.mark.skipif(not WHOLE_CORPUS, reason="make test-corpus runs this"),
]
FIELDS = ("ip_addresses", "dns_queries", "dns_root", "state")
Asked = tuple[str, int, LookupResult | None]
WHOLE = Bounds(size=1_000_000, grace=60)


def played(path: Path, every: int, at_once: int) -> tuple[Image, list[Asked]]:
    """Play a capture. After every so many messages ask about some names and addresses of the last answers."""
    image, chance, asked = Image(WHOLE), Random(1), list[Asked]()
    keys: list[str] = []
    for number, (topic, event) in enumerate(events_of(path), 1):
        apply_event(image, EFFECTS.get(topic, ""), event, live=False)
        keys = [*keys[-3 * at_once :], *touched_by(event)] if at_once > 1 else touched_by(event) or keys
        if number % every == 0 and keys:
            asked += [(key, image.now, image.get(key)) for key in chance.sample(keys, min(at_once, len(keys)))]
    return image, asked


def asked_again(image: Image, asked: list[Asked]) -> tuple[Counter[str], list[object]]:
    """Ask again with the `at` of then; return how often the history is known, and the answers that differ."""
    counts: Counter[str] = Counter()
    different: list[object] = []
    for key, at, then in asked:
        again = image.get(key, at=at)
        known = again is None or again.history
        counts["known" if known else "unknown"] += 1
        if known and shown(again) != shown(then):
            different.append((key, at, shown(then), shown(again)))
    return counts, different


def shown(found: LookupResult | None) -> dict[str, object] | None:
    """Return the fields that a later lookup repeats."""
    return None if found is None else {name: getattr(found, name) for name in FIELDS}


def test_the_past_of_a_large_capture_is_what_was_answered_then():
    """Of 7,997 lookups none differs with a known history, and at most one of a hundred has none."""
    image, asked = played(CORPUS / "tracee-dnsperf.pcap", every=3, at_once=1)
    assert len(asked) == 7_997
    counts, different = asked_again(image, asked)
    assert different == []
    assert counts["unknown"] <= len(asked) / 100, counts


def test_the_past_of_every_other_capture_is_what_was_answered_then():
    """Of 20,000 lookups over the others none differs with a known history, and at most one of a hundred has none."""
    total: Counter[str] = Counter()
    for path in CAPTURES:
        counts, different = asked_again(*played(path, every=1, at_once=25))
        assert different == [], path.name
        total += counts
    assert total.total() >= 20_000
    assert total["unknown"] <= total.total() / 100, total
