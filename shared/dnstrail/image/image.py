"""The image: DNS messages in, answers to lookups out (docs/lookups.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from dnstrail.connection import Connection
from dnstrail.dns import Message, decode
from dnstrail.dns.names import address_text, lookup_key
from dnstrail.errors import BadMessage
from dnstrail.image.admission import Admission, Verdict, conflicts
from dnstrail.image.answer import Answer, Circumstances
from dnstrail.image.lookup import LookupResult, lookup
from dnstrail.image.relate import refusal, relate
from dnstrail.image.relation import Edge
from dnstrail.image.store import Bounds, Store
from dnstrail.image.trails.asker import actors_of
from dnstrail.image.trails.connection_history import Actor, ConnectionHistory
from dnstrail.image.trails.names import AddressNames
from dnstrail.image.trails.server_names import ServerNameSighting, ServerNameTable
from dnstrail.image.trails.trail import Trails, find_trails
from dnstrail.image.view import View

MAX_ADDRESSES = 64  # of one answer that are candidates for later connections
_ANYBODY = Connection()
_UNKNOWN = Circumstances()


class FeedOutcome(NamedTuple):
    """The outcome of one DNS message.

    `admitted` states that it counts as an answer. `conflict` states that it is a second answer to one query, and that
    it has no target in common with the first.
    """

    admitted: bool = False
    conflict: bool = False


_IGNORED = FeedOutcome()


class Image:
    """All relations that answers stated, within bounds, and the evidence beside them.

    It is plain data: time stamps come with the messages, and nothing is read or sent. `latest` is the greatest stamp
    so far, which is the clock of a file. `counters` counts messages and resource records by their outcome.
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

    def feed(self, stamp: float, payload: bytes, circumstances: Circumstances = _UNKNOWN) -> FeedOutcome:
        """Apply one DNS message from its wire form, and return its outcome.

        Any bytes are accepted: a message that does not count is counted by its reason, and nothing is raised.
        """
        self.latest = max(self.latest, stamp)
        self.counters["messages"] += 1
        message = self._read(payload, stamp, circumstances)
        if message is None:
            return _IGNORED
        root, edges = relate(message, self.counters)
        verdict = self._admit(message, stamp, circumstances)
        conflict = conflicts(verdict, frozenset(edge.target for edge in edges))
        if conflict:
            self.counters["answer_conflict"] += 1
        if verdict.admitted:
            self._apply(root, edges, self._answer(message, stamp, circumstances, verdict))
        return FeedOutcome(verdict.admitted, conflict)

    def get(
        self, key: str, *, now: float | None = None, at: float | None = None, nodes: int | None = None
    ) -> LookupResult | None:
        """Look up a name or an address as of `now` (default: the greatest stamp), or as of the past time `at`.

        A lookup without `at` counts as a use of its root. `nodes` lowers the bound on the nodes of the result.
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
        """Return the paths from questions to a key, the likeliest first, expired paths included; None without any."""
        node = lookup_key(key)
        view = self.view(now=now, at=at)
        return find_trails(view, node, self.bounds.nodes, connection, self.uses, self.server_names) if node else None

    def names_of_address(
        self, address: str, *, now: float | None = None, at: float | None = None, nodes: int | None = None
    ) -> AddressNames:
        """Return the live names of an address, to be ordered for connections to it, as in `dst_dns`.

        They are the names of `get(address)`, except at a sinkhole address (0.0.0.0/8, 127.0.0.0/8, ::, ::1). A text
        that is no address has none. Unlike `get` this never counts as a use of a root. `nodes` lowers the bound on
        nodes, as in `get`.
        """
        limit = min(self.bounds.nodes, nodes or self.bounds.nodes)
        view = self.view(now=now, at=at)
        return AddressNames(view, address_text(address) or "", limit, self.uses, self.server_names)

    def note_connection(self, stamp: float, actors: Iterable[Actor], address: str, port: int) -> None:
        """Note a connection of these actors: process id, container id, client address. It used one of their answers."""
        self.uses.note_connection(actors, address, port, stamp)

    def note_server_name(self, address: str, sighting: ServerNameSighting) -> None:
        """Note the server name that a client sent to an address."""
        self.server_names.note(address, sighting)

    def view(self, *, now: float | None = None, at: float | None = None) -> View:
        """Return the relations that are live at `now`, or that were live at `at`."""
        when = self.latest if now is None else now
        return View(
            self.store.forward,
            self.store.pointers,
            when if at is None else at,
            self.bounds.grace,
            history=self.bounds.history,
            seen_by=float("inf") if at is None else at,
        )

    def remembers(self, at: float) -> bool:
        """Return whether everything that was live at `at` is still held."""
        return at >= self.store.forgotten

    def forget(self, at: float) -> None:
        """Declare that nothing is held from before `at`."""
        self.store.forgotten = max(self.store.forgotten, at)

    def sweep(self, now: float, steps: int) -> None:
        """Remove what ended by `now`, in at most `steps` steps. Lookups show no difference but in `history`."""
        self.store.sweep(now, steps)

    def _read(self, payload: bytes, stamp: float, circumstances: Circumstances) -> Message | None:
        """Return a response that counts. Count any other message by its reason; a query waits for its response."""
        try:
            message = decode(payload)
        except BadMessage:
            self.counters["bad_message"] += 1
            return None
        reason = refusal(message)
        if reason:
            self.counters[reason] += 1
            if reason == "query":
                self.admission.asked(stamp, payload, circumstances.flow, circumstances.process)
            return None
        if message.skipped:
            self.counters["bad_record"] += message.skipped
        if message.damaged:
            self.counters["cut_short"] += 1
        return message

    def _admit(self, message: Message, stamp: float, circumstances: Circumstances) -> Verdict:
        flow, live, asked = circumstances.flow, circumstances.live, circumstances.asked
        verdict = self.admission.answered(stamp, message, flow, live=live, asked=asked)
        if not verdict.admitted:
            self.counters["not_admitted"] += 1
        return verdict

    def _answer(self, message: Message, stamp: float, circumstances: Circumstances, verdict: Verdict) -> Answer:
        """Return the answer with its asker: who sent the query, else whom the response reached, never the server."""
        flow, process, live, foreign, asked = circumstances
        reached = process if asked or (flow and not flow.egress) else None
        return Answer(
            noted=stamp if live else self.latest,
            stamp=stamp,
            type=message.type,
            flow=flow,
            process=verdict.asker or reached,
            matched=verdict.matched,
            foreign=foreign,
        )

    def _apply(self, root: str, edges: list[Edge], answer: Answer) -> None:
        self.counters["related" if edges else "unrelated"] += 1
        if edges:
            self.store.apply(self.latest, root, edges, answer)
            self._note_answer(root, edges, answer)
        self.store.sweep(self.latest, 2 * len(edges) + 2)

    def _note_answer(self, root: str, edges: list[Edge], answer: Answer) -> None:
        """Note which actors know an address from this answer, so that their connections name it."""
        actors = actors_of(answer)
        if actors:
            for target in dict.fromkeys(edge.target for edge in edges[:MAX_ADDRESSES]):
                if address_text(target):
                    self.uses.note_answer(actors, target, root, answer.stamp)
