"""An image and the naive model, fed and asked alike; whatever they say differently is an AssertionError."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dnstrail.image import Bounds, Circumstances, Image
from dnstrail.image.admission import Admission
from dnstrail.image.lookup import LookupResult
from model.naive import ALWAYS, NaiveModel
from model.naive_life import Relation

FIELDS = ("ip_addresses", "dns_queries", "dns_root", "state")
UNBOUND = 10**6  # a bound that no test meets
MANY = 10**6  # steps of sweeping: all there is to sweep
EVICTIONS = ("evicted_roots", "evicted_owned", "evicted_relations")


def shown(found: LookupResult | None) -> dict[str, Any] | None:
    """An answer as the model writes it."""
    return None if found is None else {field: getattr(found, field) for field in FIELDS}


class ImageAndModel:
    """Both sides of the comparison; stamps and times are epoch seconds.

    Where bounds may be met, all is swept before each message that the image could sweep while it takes the message, so
    that the moments of its small steps do not show in what the bounds do. (With `history` above the largest delay of a
    packet nothing is swept at its birth either.) `counts`: how often what was compared.
    """

    def __init__(self, bounds: Bounds, *, live: bool) -> None:
        self.bounds, self.live = bounds, live
        self.image = Image(bounds, Admission("accept"))
        self.model = NaiveModel(
            bounds.grace,
            history=bounds.history,
            size=bounds.size,
            owned=bounds.owned,
            relations=bounds.relations or ALWAYS,
        )
        bounded = min(bounds.owned, bounds.relations or UNBOUND) < UNBOUND
        self.steady = bounds.size < UNBOUND or (bounded and bounds.history < UNBOUND)
        self.counts: Counter[str] = Counter()

    def feed(self, stamp: float, payload: bytes) -> None:
        """One message for both."""
        if self.steady:
            self._feed(stamp, b"")  # a message of nothing moves the clock
            self.sweep()
        self._feed(stamp, payload)
        self.counts["messages"] += 1
        if self.steady:
            self.assert_alike()

    def _feed(self, stamp: float, payload: bytes) -> None:
        self.image.feed(stamp, payload, Circumstances(live=self.live))
        self.model.feed(stamp, payload, live=self.live)

    def sweep(self) -> None:
        """Let go of all that may be."""
        if self.image.latest is None:
            return
        self.image.sweep(self.image.latest, MANY)
        self.model.sweep(self.image.latest)
        self.assert_alike()
        held, wanted = list(self.image.store.roots), list(self.model.places)
        assert held == wanted or not self.steady, f"places of roots\n image {held}\n model {wanted}"

    def get(self, key: str, now: float | None = None) -> None:
        """A lookup of the present touches its root on both sides, so the next eviction tells whether it did."""
        found, wanted = self.image.get(key, now=now), self.model.get(key, now=now)
        self.counts["gets"] += 1
        assert shown(found) == wanted, f"get({key!r}, now={now})\n image {shown(found)}\n model {wanted}"

    def get_at(self, key: str, at: float) -> None:
        """A lookup of the past is the model's unless the image says that it no longer knows."""
        found = self.image.get(key, at=at)
        exact = self.image.remembers(at) and (found is None or found.exact)
        self.counts["exact" if exact else "inexact"] += 1
        if exact:
            wanted = self.model.get(key, at)
            assert shown(found) == wanted, f"get({key!r}, at={at})\n image {shown(found)}\n model {wanted}"
        elif found is not None:
            assert_well_formed(found)

    def assert_alike(self) -> None:
        """Both keep the same relations by the same roots, have evicted as much, and have forgotten the same past."""
        kept, wanted = kept_by(self.image), {relation: set(life.roots) for relation, life in self.model.lives.items()}
        assert kept == wanted, f"relations and their roots, or what differs in\n{_differing(kept, wanted)}"
        assert self.image.store.held == self.model.weight(), "what the bound on relations counts"
        assert self.image.store.forgotten == self.model.forgotten, "the past that is forgotten"
        for counter in EVICTIONS:
            assert self.image.counters[counter] == self.model.counters[counter], counter

    def beyond_the_model(self) -> bool:
        """Whether a relation remembers more roots without a place than `size`, past which the image may forget some."""
        lives = self.model.lives.values()
        return any(len(life.roots.keys() - self.model.places.keys()) > self.bounds.size for life in lives)


def kept_by(image: Image) -> dict[Relation, set[str]]:
    """The relations in an image and the roots that each remembers."""
    owners = [*image.store.forward.out.values(), *image.store.pointers.out.values()]
    relations = [relation for owned in owners for relation in owned.values()]
    return {(one.owner, one.kind.name, one.target): set(one.roots) for one in relations}


def _differing(kept: dict[Relation, set[str]], wanted: dict[Relation, set[str]]) -> str:
    sides = (("image", kept, wanted), ("model", wanted, kept))
    return "\n".join(
        f" {side} {relation} {here[relation]}"
        for side, here, there in sides
        for relation in here
        if here[relation] != there.get(relation)
    )


def assert_well_formed(found: LookupResult) -> None:
    """Any answer at all is lists without duplicates, headed by its root."""
    assert len(set(found.ip_addresses)) == len(found.ip_addresses)
    assert len(set(found.dns_queries)) == len(found.dns_queries)
    assert found.dns_queries
    assert found.dns_root in ("", found.dns_queries[0])
    assert found.state in ("live", "grace")
