"""A slow and obvious model of the image: it keeps every sighting and computes each lookup from scratch.

It is written from the design alone. `naive_wire`, `naive_relate`, `naive_life` and `naive_lookup` are its parts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from model.naive_life import Life, Place, Relation, Sighting, last_life
from model.naive_lookup import Live, answer
from model.naive_relate import Stated, stated_by
from model.naive_wire import address_text, key_text

NEVER = float("-inf")
ALWAYS = float("inf")


class NaiveModel:
    """The model: feed it raw messages in the order of arrival, then look up keys. Bounds are optional.

    `size`, `owned` and `relations` are the bounds on roots, on the relations of one owner, and on all
    relations. Only `sweep` sweeps: a comparison with an image chooses moments that do not matter.
    """

    def __init__(
        self,
        grace: float = 60.0,
        *,
        history: float = 300.0,
        size: float = ALWAYS,
        owned: float = ALWAYS,
        relations: float = ALWAYS,
    ) -> None:
        self.forgotten = NEVER
        self.counters: Counter[str] = Counter()
        self.lives: dict[Relation, Life] = {}  # the present life of each relation that is held
        self.places: dict[str, int] = {}  # root -> the message by which it got its place; least recently used first
        self._grace = grace
        self._history = history
        self._size, self._owned, self._relations = size, owned, relations
        self._sightings: dict[Relation, list[Sighting]] = {}
        self._messages = 0
        self._changes = 0  # of anything that a lookup depends on
        self._latest: float | None = None
        self._tables: tuple[tuple[int, float, float], Live, Live] | None = None  # the tables of the last lookup

    def feed(self, stamp: float, payload: bytes, *, live: bool = False) -> None:
        """Apply one raw DNS message (a UDP body) of time `stamp`, in epoch seconds; any bytes are accepted."""
        number = self._messages
        self._messages += 1
        self._latest = stamp if self._latest is None else max(stamp, self._latest)
        root, stated = stated_by(payload)
        if not stated:
            return
        self._changes += 1
        for one in stated:
            place = number, *one.place
            self._sight(one, Sighting(stamp, stamp if live else self._latest, stamp + one.ttl, place, root))
        self.places[root] = self.places.pop(root, number)
        self._bound_roots(self._latest)
        if self._owned < ALWAYS:
            for owner in {one.owner for one in stated}:
                self._bound_owner(owner)
        if self._relations < ALWAYS:
            self._bound_relations()

    def get(self, key: str, at: float | None = None, *, now: float | None = None) -> dict[str, Any] | None:
        """Look up a key as of `at`, or over everything received as of `now` (None: the greatest stamp so far).

        Return None if nothing is found. Without `at` the lookup uses its root.
        """
        node = key_text(key)
        instant = at if at is not None else now if now is not None else self._latest
        if node is None or instant is None:
            return None
        live, without_grace = self._tables_at(instant, ALWAYS if at is None else at)
        found = answer(live, node)
        if found is None:
            return None
        if at is None and found["dns_root"] in self.places:
            self.places[found["dns_root"]] = self.places.pop(found["dns_root"])
        strict = answer(without_grace, node)
        wanted = "ip_addresses" if address_text(node) is None else "dns_queries"
        return found | {"state": "live" if strict is not None and strict[wanted] else "grace"}

    def sweep(self, now: float) -> None:
        """Remove everything that expired `history` seconds before `now` or earlier."""
        self._release_places(now)
        self._drop(kept for kept, life in list(self.lives.items()) if self._expires(life) + self._history <= now)

    def _sight(self, stated: Stated, seen: Sighting) -> None:
        relation = stated.owner, stated.kind, stated.target
        before = self.lives.get(relation)
        self._sightings.setdefault(relation, []).append(seen)
        self._live_on(relation)
        if before is not None and seen.time >= self._expires(before):  # a new life has only its own roots
            self.forgotten = max(self.forgotten, self._expires(before))
            self._drop_places_without_relations()

    def _live_on(self, relation: Relation) -> None:
        """Compute the present life of a relation anew."""
        life = last_life(relation, self._sightings[relation], self._grace)
        if life is not None:
            self.lives[relation] = life

    def _expires(self, life: Life) -> float:
        return life.until + self._grace

    def _bound_roots(self, now: float) -> None:
        """Enforce `size`: release ended roots, then evict the root least recently answered or looked up."""
        if len(self.places) > self._size:
            self._release_places(now)
        while len(self.places) > self._size:
            self._forget_root(next(iter(self.places)))
            self.counters["evicted_roots"] += 1

    def _bound_owner(self, owner: str) -> None:
        """Enforce `owned`: evict the first to expire, including expired relations that are still held."""
        while len(owned := [kept for kept in self.lives if kept[0] == owner]) > self._owned:
            self._drop([min(owned, key=self._first_to_expire)])
            self.counters["evicted_owned"] += 1

    def _bound_relations(self) -> None:
        """Enforce `relations` like the bound of an owner; a relation counts once for each of its roots."""
        while self.weight() > self._relations:
            self._drop([min(self.lives, key=self._first_to_expire)])
            self.counters["evicted_relations"] += 1

    def weight(self) -> int:
        """Return the number that the bound on relations limits."""
        return sum(max(1, len(life.roots)) for life in self.lives.values())

    def _first_to_expire(self, relation: Relation) -> tuple[float, Place]:
        life = self.lives[relation]
        return self._expires(life), life.place

    def _tree(self, root: str) -> list[Relation]:
        """Return the relations that answers to a root stated since it got its place."""
        return [kept for kept, life in self.lives.items() if life.roots.get(root, -1) >= self.places[root]]

    def _forget_root(self, root: str) -> None:
        """Evict a root: its relations forget it, and relations without another placed root are removed.

        The past is complete from the end of its answers on, also for the relations that other roots keep.
        """
        tree = self._tree(root)
        for relation in tree:
            sightings = self._sightings[relation]
            ended = max(seen.until for seen in sightings if seen.root == root) + self._grace
            self.forgotten = max(self.forgotten, ended)
            sightings[:] = [seen._replace(root=None) if seen.root == root else seen for seen in sightings]
            self._live_on(relation)
        del self.places[root]
        self._changes += 1
        held = {relation for other in self.places for relation in self._tree(other)}
        self._drop(relation for relation in tree if relation not in held)

    def _drop(self, relations: Iterable[Relation]) -> None:
        for relation in relations:
            self.forgotten = max(self.forgotten, self._expires(self.lives.pop(relation)))
            del self._sightings[relation]
            self._changes += 1
        self._drop_places_without_relations()

    def _drop_places_without_relations(self) -> None:
        for root in [root for root in self.places if not self._tree(root)]:
            del self.places[root]

    def _release_places(self, now: float) -> None:
        """Release the roots whose relations have all ended."""
        for root in list(self.places):
            if all(self._expires(self.lives[relation]) <= now for relation in self._tree(root)):
                del self.places[root]

    def _tables_at(self, instant: float, noted: float) -> tuple[Live, Live]:
        """Return the live relations at an instant by the sightings noted until then, with the grace and without it."""
        moment = (self._changes, instant, noted)
        if self._tables is None or self._tables[0] != moment:
            lives = list(self.lives.values() if noted == ALWAYS else self._lives_at(noted))
            live = Live(life for life in lives if instant < self._expires(life))
            self._tables = (moment, live, Live(life for life in lives if instant < life.until))
        return self._tables[1], self._tables[2]

    def _lives_at(self, noted: float) -> Iterable[Life]:
        for relation, sightings in self._sightings.items():
            life = last_life(relation, (seen for seen in sightings if seen.noted <= noted), self._grace)
            if life is not None and life.roots:
                yield life
