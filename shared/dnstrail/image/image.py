"""The image: DNS messages in, answers to lookups out. Section 5 of DESIGN, from 5.2 to 5.6, in its order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from dnstrail.captured import Flow, Process
from dnstrail.connection import Connection
from dnstrail.dns import decode
from dnstrail.dns.names import address_text, lookup_key
from dnstrail.errors import BadMessage
from dnstrail.image.admission import Admission, conflicts
from dnstrail.image.answer import Answer
from dnstrail.image.lookup import LookupResult, lookup
from dnstrail.image.relate import refusal, relate
from dnstrail.image.relation import Edge
from dnstrail.image.store import Bounds, Store
from dnstrail.image.trails.asker import actors_of
from dnstrail.image.trails.connection_history import Actor, ConnectionHistory
from dnstrail.image.trails.names import find_names
from dnstrail.image.trails.server_names import ServerNameSighting, ServerNameTable
from dnstrail.image.trails.trail import Trails, find_trails
from dnstrail.image.view import View

_MOST_ADDRESSES = 64  # of one answer of which it is remembered whom it told them
_ANYBODY = Connection()


class FeedOutcome(NamedTuple):
    """What became of a message: whether it was admitted, and whether it is at odds with an earlier answer.

    `conflict`: a second answer to one query that shares no target with the first.
    """

    admitted: bool = False
    conflict: bool = False


class Image:
    """All relations that answers brought. Plain data: stamps come with the messages, nothing is read or sent.

    `latest` is the greatest stamp so far, the clock of a file. `counters` counts messages and records by what became
    of them.
    """

    def __init__(self, bounds: Bounds | None = None, admission: Admission | None = None) -> None:
        self.bounds = bounds or Bounds()
        self.admission = Admission("accept") if admission is None else admission  # an empty one is false
        self.store = Store(self.bounds)
        self.latest = float("-inf")
        self.counters: Counter[str] = self.store.counters
        self.uses = ConnectionHistory(self.counters)
        self.server_names = ServerNameTable(self.counters)

    def __len__(self) -> int:
        return len(self.store.roots)

    def feed(
        self,
        stamp: float,
        payload: bytes,
        flow: Flow | None = None,
        process: Process | None = None,
        *,
        live: bool = False,
        foreign: bool | None = None,
        asked: bool = False,
    ) -> FeedOutcome:
        """Apply one DNS message as it was on the wire; whatever it holds is applied or counted, never raised.

        What became of it: nothing of a message that does not count. `process` and `foreign` tell, for trails, who
        asked, and whether the server is none of those that it is configured to ask; `asked`, that its question was
        seen with it, so that it needs no match.
        """
        self.latest = max(self.latest, stamp)
        self.counters["messages"] += 1
        try:
            message = decode(payload)
        except BadMessage:
            self.counters["bad_message"] += 1
            return FeedOutcome()
        if reason := refusal(message):
            self.counters[reason] += 1
            if reason == "query":
                self.admission.asked(stamp, payload, flow, process)
            return FeedOutcome()
        if message.skipped:
            self.counters["bad_record"] += message.skipped
        if message.damaged:
            self.counters["cut_short"] += 1
        root, edges = relate(message, self.counters)
        verdict = self.admission.answered(stamp, message, flow, live=live, asked=asked)
        conflict = conflicts(verdict, frozenset(edge.target for edge in edges))
        if conflict:
            self.counters["answer_conflict"] += 1
        if not verdict.admitted:
            self.counters["not_admitted"] += 1
            return FeedOutcome(conflict=conflict)
        self.counters["related" if edges else "unrelated"] += 1
        if edges:
            process = verdict.asker or (process if asked or (flow and not flow.egress) else None)
            noted = stamp if live else self.latest
            answer = Answer(noted, stamp, message.type, flow, process, verdict.matched, foreign)
            self._apply(root, edges, answer)
        self.store.sweep(self.latest, 2 * len(edges) + 2)
        return FeedOutcome(admitted=True, conflict=conflict)

    def get(
        self, key: str, *, now: float | None = None, at: float | None = None, nodes: int | None = None
    ) -> LookupResult | None:
        """Look a name or an address up: as of `now` (default: the greatest stamp), or as of the past time `at`.

        A lookup without `at` touches its root. `nodes` lowers the bound on nodes in one answer.
        """
        node = lookup_key(key)
        limit = min(self.bounds.nodes, nodes or self.bounds.nodes)
        found = lookup(self.view(now=now, at=at), node, limit) if node else None
        if found and at is None:
            self.store.touch(found.dns_root)
        return found

    def trails(
        self,
        key: str,
        connection: Connection = _ANYBODY,
        *,
        now: float | None = None,
        at: float | None = None,
    ) -> Trails | None:
        """The ways from questions to a key, the likeliest first, expired ones too; None if nothing is known of it."""
        node = lookup_key(key)
        view = self.view(now=now, at=at)
        return find_trails(view, node, self.bounds.nodes, connection, self.uses, self.server_names) if node else None

    def names_of_connection(
        self,
        address: str,
        connection: Connection,
        *,
        now: float | None = None,
        at: float | None = None,
        nodes: int | None = None,
    ) -> list[str]:
        """Return the live names of the address of a connection, the likeliest first: `dst_dns` of DESIGN 6.

        They are the names of `get(address)`, in the order of the trails to it. A sinkhole address (0.0.0.0/8,
        127.0.0.0/8, ::, ::1) has only names that the process of the connection asked for. [] means: nothing live is
        known. Unlike `get` this never counts as a use of a root. `nodes` lowers the bound on nodes, as in `get`.
        """
        key = address_text(address)
        limit = min(self.bounds.nodes, nodes or self.bounds.nodes)
        view = self.view(now=now, at=at)
        return find_names(view, key, limit, connection, self.uses, self.server_names) if key else []

    def connected(self, stamp: float, actors: Iterable[Actor], address: str, port: int) -> None:
        """Somebody (process id, container id, client address) connected: its answers about the address were used."""
        self.uses.connected(actors, address, port, stamp)

    def called(self, address: str, call: ServerNameSighting) -> None:
        """A client called a server by a name."""
        self.server_names.note(address, call)

    def view(self, *, now: float | None = None, at: float | None = None) -> View:
        """The live relations as of `now` or `at`."""
        when = self.latest if now is None else now
        seen_by = float("inf") if at is None else at
        return View(self.store.forward, self.store.pointers, when if at is None else at, self.bounds.grace, seen_by)

    def remembers(self, at: float) -> bool:
        """Whether everything that was live at `at` is still remembered."""
        return at >= self.store.forgotten

    def forget(self, at: float) -> None:
        """Say that nothing is remembered of the time before `at`."""
        self.store.forgotten = max(self.store.forgotten, at)

    def _apply(self, root: str, edges: list[Edge], answer: Answer) -> None:
        self.store.apply(self.latest, root, edges, answer)
        actors = actors_of(answer)
        if actors:
            for target in dict.fromkeys(edge.target for edge in edges[:_MOST_ADDRESSES]):
                if address_text(target):
                    self.uses.answered(actors, target, root, answer.stamp)

    def sweep(self, now: float, steps: int) -> None:
        """Let go of what ended by `now`, in at most so many steps; never visible but through history."""
        self.store.sweep(now, steps)
