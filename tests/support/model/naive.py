"""A slow and obvious model of the image: it keeps every answer and computes each lookup from scratch.

It is written from docs/inside/image.md and docs/reference/bounds.md alone, and reads messages by dnspython alone.
`naive_wire`, `naive_relate`, `naive_admission`, `naive_answers`, `naive_places` and `naive_lookup` are its parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from dnstrail.captured import FORWARDER, Flow, Process
from model.instants import ns
from model.naive_admission import NaiveAdmission, Verdict, Whose, whose
from model.naive_answers import ONE_BY_ONE, Answer, Record, by_record, folded, has_late_sum, sums_at
from model.naive_lookup import Live, answer, pointer_roots, roots_of, walked
from model.naive_places import NEVER, Place, Places
from model.naive_relate import longest, stated_by
from model.naive_wire import key_text, read_heading

Result = dict[str, Any]


class NaiveModel:
    """The model: feed it raw messages in the order of arrival, then look up keys. Bounds are optional.

    `grace` and `history` are seconds; instants are integer nanoseconds. Only `sweep` removes answers by time: removal
    is never visible but through `forgotten`. An image may leave a choice open: `like` (a result) and `kept` (the roots
    that still have a place) tell the model which of the right choices to make.
    """

    def __init__(
        self,
        grace: float = 60.0,
        *,
        history: float = 300.0,
        size: float = NEVER,
        owned: float = NEVER,
        relations: float = NEVER,
        unmatched: str = "accept",
    ) -> None:
        self.forgotten = -1
        self.counters: Counter[str] = Counter()
        self.admission = NaiveAdmission(unmatched)
        self.places = Places(size, relations)
        self.now: int | None = None
        self.ever: list[Answer] = []
        self._grace, self._history, self._owned = ns(grace), ns(history), owned
        self._evicted: set[Answer] = set()
        self._sightings: Counter[Record] = Counter()
        self._messages = 0
        self._changes = 0  # of anything that a lookup depends on
        self._tables: tuple[object, Live, Live] | None = None  # the tables of the last lookup

    def feed(
        self,
        stamp: int,
        payload: bytes,
        *,
        flow: Flow | None = None,
        process: Process | None = None,
        live: bool = False,
        asked: bool = False,
        host: str = "",
        kept: Collection[str] | None = None,
    ) -> Verdict:
        """Apply one raw DNS message; any bytes are accepted."""
        self._messages += 1
        self.advance(stamp)
        heading, of = read_heading(payload), whose(flow, process, host)
        if heading is None or not (heading.is_query or heading.is_response):
            return Verdict(admitted=False)
        if heading.is_query:
            self.admission.asked(stamp, payload, heading, flow, of)
            return Verdict(admitted=False)
        forwarder = flow is not None and flow.role == FORWARDER and not flow.egress
        root, stated = stated_by(payload, to_forwarder=forwarder)
        relations = longest(stated)
        counted = relations[: int(min(self._owned, len(relations)))]
        self.counters["beyond_owned"] += len(stated) - len(counted)
        targets = frozenset(one.relation[2] for one in stated)
        verdict = self.admission.answered(stamp, payload, heading, flow, of, targets, live=live, asked=asked)
        if verdict.admitted and counted:
            ends = {relation: stamp + ns(ttl) for relation, ttl in counted}
            noted = stamp if live else self.now or stamp
            self._keep(Answer(self._messages, root, stamp, noted, verdict.doubted, ends), verdict.asker or of, kept)
        return verdict._replace(related=bool(stated))

    def advance(self, now: int) -> None:
        """Raise the clock of the stream."""
        self.now = now if self.now is None else max(now, self.now)

    def gap(self, stamp: int, host: str = "", cgroup: int = 0, owner: int = 0) -> None:
        """Note a loss."""
        self.admission.gap(stamp, host, cgroup, owner)

    def get(
        self, key: str, *, at: int | None = None, now: int | None = None, like: Result | None = None, used: str = ""
    ) -> Result | None:
        """Look up a key as of `at`, or over everything received as of `now` (None: the clock of the stream).

        Return None if nothing is found. Without `at` the lookup uses its root. `used` is the root if
        another answer is as good.
        """
        node = key_text(key)
        if node is None:
            return None
        live, without_grace = self._live(at, now)
        roots = self.roots_of(key, at=at, now=now)
        if not roots:
            return None
        root = used if used in roots else roots[0]
        if at is None:
            self.places.use(root)
        found, strict = answer(live, node, root, like), answer(without_grace, node)
        lost = strict is None or (found["ip_addresses"] and not strict["ip_addresses"])
        return found | {"state": "grace" if lost else "live"}

    def sweep(self) -> None:
        """Remove every answer whose last relation ended `history` seconds ago or earlier (of a live source)."""
        for place in list(self.places.by_root.values()) if self.now is not None else ():
            self._remove(place, [one for one in place.answers if self._end(one) + self._history <= self.now])

    def roots(self) -> tuple[set[str], list[str]]:
        """Return the roots with a place: those that have ended, and the others, the least recently used first."""
        ended = {place.root for place in self.places.by_root.values() if self._has_ended(place)}
        return ended, [root for root in self.places.by_root if root not in ended]

    def meets_a_sum(self, key: str, at: int, *, with_gap: bool = False, over: bool = False) -> bool:
        """Return whether a lookup at `at` may meet a sum with sightings before and after (and with a gap).

        With `over` a sum that ended before counts, too.

        Order and root of such a result are not exact; with a gap nothing is. A record that was evicted begins anew: a
        gap may exist among the sightings since then alone.
        """
        node = key_text(key)
        if node is None or not self._has_sums:
            return False
        grace = self._grace if with_gap else None
        sums = [one for answers in (self.ever, self.held) for one in sums_at(answers, at, gap_of=grace, over=over)]
        possible = [replace(one, ends=dict.fromkeys(one.ends, at + 1)) for one in sums]
        live = Live([*(one for one in self.ever if one.noted <= at), *possible], at, self._grace)
        return any(one in life.answers for life in walked(live, node) for one in possible)

    def depends_on_sums(self, key: str, *, at: int | None = None, now: int | None = None) -> bool:
        """Return whether order or root of a lookup may depend on a sum that ended before."""
        node, instant = key_text(key), self._instant(at, now)
        if node is None or not self._has_sums:
            return False
        answers = [one for one in self.ever if one not in self._evicted or at is not None]
        until = instant if at is not None else None
        exact = Live([one for one in answers if until is None or one.noted <= until], instant, self._grace)
        rough = [Live(folded(answers, until, backwards=either), instant, self._grace) for either in (False, True)]
        late = {one for many in by_record(answers).values() if has_late_sum(many) for one in many}
        met = any(one in late for life in walked(exact, node) for one in life.answers)
        return met or any(answer(exact, node) != answer(one, node) for one in rough)

    def roots_of(self, key: str, *, at: int | None = None, now: int | None = None) -> list[str]:
        """Return the questions whose answers a lookup of this key may be found by, the right one first."""
        node = key_text(key) or ""
        live, _ = self._live(at, now)
        return roots_of(live, node) if node in live.touching else pointer_roots(live, node)

    @property
    def held(self) -> list[Answer]:
        """Return the answers that are held, in the order of arrival."""
        held = [one for place in self.places.by_root.values() for one in place.answers]
        return sorted(held, key=lambda one: one.number)

    @property
    def _has_sums(self) -> bool:
        return max(self._sightings.values(), default=0) > ONE_BY_ONE

    def _keep(self, new: Answer, of: Whose, kept: Collection[str] | None) -> None:
        """Hold one more answer, and evict what exceeds a bound."""
        place = self.places.answered(new.root, of)
        place.answers.append(new)
        self.ever.append(new)
        self._sightings[new.record] += 1
        self._changes += 1
        while self._owned < NEVER and place.relations > self._owned:
            oldest = min(by_record(place.answers).values(), key=self._last_number)
            self.counters["evicted_owned"] += len(oldest[0].ends)
            self._evict(place, oldest)
        for bound, root in self.places.evictions(new.root, self._has_ended, kept):
            self.counters["evicted_roots" if bound == "size" else "evicted_relations"] += 1
            if len(self.places.owners) > 1:
                self.counters["evicted_greedy"] += bool(self.places.greedy)
                self.counters["evicted_busy"] += bool(self.places.busy)
            self._evict(self.places.by_root[root], self.places.by_root[root].answers)

    def _last_number(self, sightings: list[Answer]) -> int:
        """Return the number of the last sighting of a record, which may have been removed by time before elder ones."""
        return max(one.number for one in self.ever if one.record == sightings[0].record)

    def _evict(self, place: Place, answers: list[Answer]) -> None:
        self._evicted.update(answers)
        self._remove(place, answers)

    def _remove(self, place: Place, answers: list[Answer]) -> None:
        if not answers:
            return
        self.forgotten = max(self.forgotten, *map(self._end, answers))
        place.answers = [one for one in place.answers if one not in answers]
        if not place.answers:
            del self.places.by_root[place.root]
        self._changes += 1

    def _end(self, one: Answer) -> int:
        return one.last_end + self._grace

    def _has_ended(self, place: Place) -> bool:
        return self.now is not None and max(map(self._end, place.answers)) <= self.now

    def _instant(self, at: int | None, now: int | None) -> int:
        return at if at is not None else now if now is not None else self.now or 0

    def _live(self, at: int | None, now: int | None) -> tuple[Live, Live]:
        """Return the live relations of a lookup, with the grace and without it."""
        instant = self._instant(at, now)
        moment = self._changes, instant, at is None
        if self._tables is None or self._tables[0] != moment:
            answers = self.held if at is None else [one for one in self.ever if one.noted <= at]
            live, without_grace = (Live(answers, instant, grace, self.ever) for grace in (self._grace, 0))
            self._tables = moment, live, without_grace
        return self._tables[1:]
