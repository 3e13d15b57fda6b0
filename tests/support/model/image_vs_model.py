"""An image and the naive model with the same messages and lookups; any difference is an AssertionError."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dnstrail.captured import Flow, Process
from dnstrail.image import Bounds, Circumstances, Image, LookupResult
from model.naive import NaiveModel, Result
from model.naive_places import NEVER
from model.naive_wire import key_text

FIELDS = ("ip_addresses", "dns_queries", "dns_root", "state")
UNBOUND = 10**6  # a bound that no test meets
MANY = 10**6  # steps of a sweep that is complete


def shown(found: LookupResult | None) -> Result | None:
    """Return a result in the form of the model."""
    return None if found is None else {field: getattr(found, field) for field in FIELDS}


class ImageAndModel:
    """Both sides of the comparison; instants are integer nanoseconds.

    The image removes by time in small steps. If bounds may be met, everything is therefore swept before and after each
    message, so that the moments of these steps do not matter. `counts` counts the comparisons by kind.
    """

    def __init__(self, bounds: Bounds, *, live: bool, unmatched: str = "accept") -> None:
        self.bounds, self.live = bounds, live
        self.image = Image(bounds, unmatched)
        self.model = NaiveModel(
            bounds.grace,
            history=bounds.history,
            size=bounds.size,
            owned=bounds.owned,
            relations=bounds.relations or NEVER,
            unmatched=unmatched,
        )
        self.bounded = min(bounds.size, bounds.owned, bounds.relations or UNBOUND) < UNBOUND
        self.counts: Counter[str] = Counter()

    def feed(
        self,
        stamp: int,
        payload: bytes,
        *,
        flow: Flow | None = None,
        process: Process | None = None,
        host: str = "",
        asked: bool = False,
    ) -> None:
        """Feed one message to both sides; the first is a start, which puts all parties in doubt."""
        if not self.counts["messages"]:
            self.gap(stamp)
        self.advance(stamp)
        seen = Circumstances(flow=flow, process=process, live=self.live, asked=asked, host=host)
        outcome = self.image.feed(stamp, payload, seen)
        self._sweep()
        kept = set(self.image.roots()) if self.bounded else None
        more: dict[str, Any] = {"flow": flow, "process": process, "live": self.live, "host": host, "asked": asked}
        verdict = self.model.feed(stamp, payload, **more, kept=kept)
        self._sweep()
        assert verdict.conflict in (outcome.conflict, None), (
            f"conflict: image {outcome.conflict}, not {verdict.conflict}"
        )
        if verdict.related and not verdict.copy:
            assert outcome.admitted == verdict.admitted, f"admitted: image {outcome}, model {verdict}"
            self.counts["admitted" if verdict.admitted else "rejected"] += 1
        self.counts.update(name for name in ("matched", "doubted", "copy", "conflict") if getattr(verdict, name))
        self.counts["messages"] += 1
        self.assert_alike()

    def advance(self, now: int) -> None:
        """Raise the clock of a live source; a file has no clock but its stamps."""
        if self.live:
            self.image.advance(now)
            self.model.advance(now)
            self._sweep()

    def sweep(self) -> None:
        """Remove everything that is due."""
        if self.live:
            self.image.sweep(MANY)
            self.model.sweep()
            self.counts["sweeps"] += 1
            self.assert_alike()

    def gap(self, stamp: int, host: str = "", cgroup: int = 0, owner: int = 0) -> None:
        """Note a loss of one party on both sides."""
        self.image.gap(stamp, host, cgroup, owner)
        self.model.gap(stamp, host, cgroup, owner)
        self.counts["gaps"] += 1

    def get(self, key: str, now: int | None = None) -> None:
        """Compare a lookup of the present. It uses its root on both sides, so the next eviction shows a difference."""
        self._compare(key, self.image.get(key, now=now), now=now)
        self.assert_alike()

    def get_at(self, key: str, at: int) -> None:
        """Compare a lookup of the past, as far as the image remembers it."""
        self._compare_past(key, self.image.get(key, at=at), at)

    def get_many(self, keys: tuple[str, ...], *, now: int | None = None, at: int | None = None) -> None:
        """Compare several lookups of one view; each canonical key is looked up once."""
        several = self.image.get_many(list(keys), now=now, at=at)
        assert len(several) == len(keys)
        first: dict[str | None, LookupResult | None] = {}
        for key, found in zip(keys, several, strict=True):
            if key_text(key) in first:
                assert shown(found) == shown(first[key_text(key)]), key
                continue
            first[key_text(key)] = found
            if at is None:
                self._compare(key, found, now=now, alone=False)
            else:
                self._compare_past(key, found, at)
        self.counts["get_many"] += 1
        self.assert_alike()

    def assert_alike(self) -> None:
        """Assert that both sides hold the same roots in the same order, and the same counters of evictions."""
        assert self.image.now == self.model.now or self.model.now is None
        if not self.bounded:
            return
        held, (ended, others) = self.image.roots(), self.model.roots()
        alike = set(held[: len(ended)]) == ended and held[len(ended) :] == others and len(held) == len(set(held))
        assert alike, f"roots\n image {held}\n model {sorted(ended)} {others}"
        image, model = self.image.counters, self.model.counters
        most = model["evicted_owned"] + model["beyond_owned"]  # an image may count what one answer has too many
        assert model["evicted_owned"] <= image["evicted_owned"] <= most, f"evicted_owned: image {image}, model {model}"
        sums = [one["evicted_roots"] + one["evicted_relations"] for one in (image, model)]
        assert sums[0] == sums[1], f"evicted_roots: image {image}, model {model}"

    def _sweep(self) -> None:
        """Remove everything that is due, from the model always, from an image with bounds so that both stay alike."""
        if self.live:
            self.model.sweep()
        if self.live and self.bounded:
            self.image.sweep(MANY)

    def _compare(self, key: str, found: LookupResult | None, *, now: int | None, alone: bool = True) -> None:
        self.counts["gets"] += 1
        assert found is None or found.history, f"get({key!r}, now={now}) forgot the present"
        loose = self.model.depends_on_sums(key, now=now)
        self.counts["by_sums"] += loose
        wanted = self.model.get(
            key, now=now, like=shown(found), used=self._used(key, found, now=now, loose=loose, alone=alone)
        )
        self._assert_equal(f"get({key!r}, now={now})", found, wanted, loose=loose)

    def _compare_past(self, key: str, found: LookupResult | None, at: int) -> None:
        forgotten = self.image.forgotten
        assert forgotten is None or forgotten <= self.model.forgotten, f"image.forgotten {forgotten} is too late"
        remembered, gap = forgotten is None or at >= forgotten, self.model.meets_a_sum(key, at, with_gap=True)
        within = self.model.meets_a_sum(key, at)
        exact = found.history if found else remembered and not gap
        question = f"get({key!r}, at={at})"
        assert remembered or not exact, f"{question} is before {forgotten}, with history"
        reason = exact or found is None or at < self.model.forgotten or self.model.meets_a_sum(key, at, over=True)
        assert reason, f"{question} without history: no reason"
        self.counts["exact" if exact else "at_gap" if gap else "forgotten" if not remembered else "between"] += 1
        if exact:
            loose = self.model.depends_on_sums(key, at=at)
            self.counts["at_sum"] += within
            used = found.dns_root if loose and found else ""
            wanted = self.model.get(key, at=at, like=shown(found), used=used)
            self._assert_equal(question, found, wanted, loose=loose)
        elif found is not None:
            assert_well_formed(found)

    def _used(self, key: str, found: LookupResult | None, *, now: int | None, loose: bool, alone: bool) -> str:
        """Return the root that a lookup used, where several are right; by PTR only a lookup alone shows it."""
        if found is None or (found.dns_root and not loose):
            return ""
        if found.dns_root:
            return found.dns_root
        roots = self.model.roots_of(key, now=now)
        last = self.image.roots()[-1:]
        return last[0] if last and last[0] in roots and alone else ""

    def _assert_equal(self, question: str, found: LookupResult | None, wanted: Result | None, *, loose: bool) -> None:
        """Assert that a result is right; a loose one may have another order."""
        got = shown(found)
        if found is not None:
            assert_well_formed(found)
            assert not found.truncated, f"{question} is truncated"
        if loose and got is not None and wanted is not None:
            got, wanted = ({**one, **_sorted(one)} for one in (got, wanted))
        assert got == wanted, f"{question}{' (in any order)' * loose}\n image {got}\n model {wanted}"


def _sorted(result: Result) -> Result:
    return {field: sorted(result[field]) for field in ("ip_addresses", "dns_queries")}


def assert_well_formed(found: LookupResult) -> None:
    """Assert that a result consists of lists without duplicates, and that its root is the first name."""
    assert len(set(found.ip_addresses)) == len(found.ip_addresses)
    assert len(set(found.dns_queries)) == len(found.dns_queries)
    assert found.dns_queries
    assert found.dns_root in ("", found.dns_queries[0])
    assert found.state in ("live", "grace")
