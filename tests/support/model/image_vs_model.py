"""An image and the naive model with the same messages and lookups; any difference is an AssertionError."""

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
MANY = 10**6  # steps of a sweep that is complete
EVICTIONS = ("evicted_roots", "evicted_owned", "evicted_relations")


def shown(found: LookupResult | None) -> dict[str, Any] | None:
    """Return a result in the form of the model."""
    return None if found is None else {field: getattr(found, field) for field in FIELDS}


class ImageAndModel:
    """Both sides of the comparison; stamps and times are epoch seconds.

    The image sweeps in small steps while it takes a message. If bounds may be met, everything is therefore swept before
    each message, so that the moments of these steps do not matter. (With `history` above the largest delay of a packet,
    no relation is swept when it is new.) `counts` counts the comparisons by kind.
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
        """Feed one message to both sides."""
        if self.steady:
            self._feed(stamp, b"")  # an empty message moves the clock
            self.sweep()
        self._feed(stamp, payload)
        self.counts["messages"] += 1
        if self.steady:
            self.assert_alike()

    def _feed(self, stamp: float, payload: bytes) -> None:
        self.image.feed(stamp, payload, Circumstances(live=self.live))
        self.model.feed(stamp, payload, live=self.live)

    def sweep(self) -> None:
        """Sweep everything that may be swept."""
        if self.image.latest is None:
            return
        self.image.sweep(self.image.latest, MANY)
        self.model.sweep(self.image.latest)
        self.assert_alike()
        held, wanted = list(self.image.store.roots), list(self.model.places)
        assert held == wanted or not self.steady, f"places of roots\n image {held}\n model {wanted}"

    def get(self, key: str, now: float | None = None) -> None:
        """Compare a lookup of the present. It uses its root on both sides, so the next eviction shows a difference."""
        found, wanted = self.image.get(key, now=now), self.model.get(key, now=now)
        self.counts["gets"] += 1
        assert shown(found) == wanted, f"get({key!r}, now={now})\n image {shown(found)}\n model {wanted}"

    def get_at(self, key: str, at: float) -> None:
        """Compare a lookup of the past, unless the image reports that it forgot that time."""
        found = self.image.get(key, at=at)
        exact = self.image.remembers(at) and (found is None or found.exact)
        self.counts["exact" if exact else "inexact"] += 1
        if exact:
            wanted = self.model.get(key, at)
            assert shown(found) == wanted, f"get({key!r}, at={at})\n image {shown(found)}\n model {wanted}"
        elif found is not None:
            assert_well_formed(found)

    def assert_alike(self) -> None:
        """Assert that both sides hold the same relations and roots, evictions, and end of the forgotten past."""
        kept, wanted = kept_by(self.image), {relation: set(life.roots) for relation, life in self.model.lives.items()}
        assert kept == wanted, f"relations and their roots, or what differs in\n{_differing(kept, wanted)}"
        assert self.image.store.held == self.model.weight(), "what the bound on relations counts"
        assert self.image.store.forgotten == self.model.forgotten, "the past that is forgotten"
        for counter in EVICTIONS:
            assert self.image.counters[counter] == self.model.counters[counter], counter

    def beyond_the_model(self) -> bool:
        """Return whether a relation has more unplaced roots than `size`: the image may then forget some of them."""
        lives = self.model.lives.values()
        return any(len(life.roots.keys() - self.model.places.keys()) > self.bounds.size for life in lives)


def kept_by(image: Image) -> dict[Relation, set[str]]:
    """Return the relations in an image, each with its roots."""
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
    """Assert that a result consists of lists without duplicates, and that its root is the first name."""
    assert len(set(found.ip_addresses)) == len(found.ip_addresses)
    assert len(set(found.dns_queries)) == len(found.dns_queries)
    assert found.dns_queries
    assert found.dns_root in ("", found.dns_queries[0])
    assert found.state in ("live", "grace")
