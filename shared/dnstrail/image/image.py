"""The image: DNS messages in, answers to lookups out (docs/inside/image.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from dnstrail.captured import Flow
from dnstrail.connection import Connection
from dnstrail.dns.header import Header, read_header
from dnstrail.dns.names import address_text, lookup_key
from dnstrail.errors import BadMessage
from dnstrail.image.admission import Admission, Verdict, asking_share, evidence_of, refusal, sharing
from dnstrail.image.answer import Answer, Circumstances, PartyKey
from dnstrail.image.binding.binder import Binder
from dnstrail.image.binding.scope import note_connection
from dnstrail.image.bounds import Bounds, Counts
from dnstrail.image.evidence import Evidence
from dnstrail.image.facts.connections import ConnectionStages
from dnstrail.image.facts.transactions import Transactions
from dnstrail.image.failures import Failure, Failures
from dnstrail.image.lookup import MOST, look_up, look_up_by_walks, look_up_usual, put_first
from dnstrail.image.parties import WorkShares, cost_of
from dnstrail.image.record import Root, Sighting
from dnstrail.image.relate import read_answer
from dnstrail.image.result import LookupResult
from dnstrail.image.store import Store
from dnstrail.image.trails.names import AddressNames
from dnstrail.image.trails.server_names import ServerNameSighting, ServerNameTable
from dnstrail.image.trails.trail import MAX_TRAILS, Trails, find_trails
from dnstrail.image.view import View

_NEVER: Final = -(1 << 61)
_RCODE: Final = 0x000F
_TRUNCATED: Final = 0x0200
_UNKNOWN: Final = Circumstances()
_ANYBODY: Final = Connection()
_MOST_ASKED: Final = 64  #: answers of a question whose hosts a reply of `get` names -> other hosts are not in `hosts`
_ALWAYS: Final = 1 << 60  # ns: nothing of a file is removed by time


class FeedOutcome(NamedTuple):
    """The outcome of one DNS message.

    `admitted` states that it counts as an answer. `conflict` states that it is a second answer to one query, and that
    it has no target in common with the first. `skipped` is the owner beyond whose part of the work it was skipped.
    """

    admitted: bool = False
    conflict: bool = False
    skipped: PartyKey | None = None


_IGNORED: Final = FeedOutcome()
_ADMITTED: Final = FeedOutcome(admitted=True)


class Image:
    """All answers that were seen, within bounds, indexed by the names and addresses that they relate.

    It is plain data: times come with the messages (ns since the epoch), and nothing is read or sent. `now` is the clock
    of the stream: the greatest stamp so far, or the time that `advance` set. `on_response` receives each response that
    reached the sender of its query: the flow, the rcode, and the time since the query (ns). `transactions`
    and `connections` are None until somebody begins to collect them.
    """

    def __init__(self, bounds: Bounds | None = None, unmatched: str = "auto") -> None:
        self.bounds = bounds or Bounds()
        self.admission = Admission(unmatched, self.bounds.probes)
        self._shares = WorkShares()
        self._counters: Counts = Counts()
        # The most frequent counts: an attribute costs less than an item.
        self._messages = self._queries = self._empty = self._related = 0
        self.store = Store(self.bounds, self._counters)
        self.binder = Binder(self.store.graph, self.bounds, self._counters)
        self.server_names = ServerNameTable(self._counters)
        self.failures = Failures(self._counters)
        self.on_response: Callable[[Flow, int, int], None] | None = None
        self.transactions: Transactions | None = None
        self.connections: ConnectionStages | None = None
        self._last_evidence: Evidence | None = None
        self._grace = self.bounds.grace_ns
        self._usual = min(MOST, self.bounds.nodes, self.bounds.walked)
        self.now = _NEVER
        self.live = False

    def __len__(self) -> int:
        return self.store.places.held

    @property
    def counters(self) -> Counts:
        """The counters of messages and resource records by their outcome."""
        usual = {"messages": self._messages, "query": self._queries, "no_answer": self._empty, "related": self._related}
        return Counts({name: count for name, count in usual.items() if count}, **self._counters)

    @property
    def forgotten(self) -> int | None:
        """The latest end of anything that was removed or evicted; None if nothing was."""
        return self.store.forgotten

    def roots(self) -> list[str]:
        """Return the questions that hold a place, in the order in which they give it up; sweep first."""
        self.sweep(self.store.places.held + 1)
        return [root.name for root in self.store.places]

    def advance(self, now: int) -> None:
        """Move the clock of the stream forward."""
        self.now = max(self.now, now)

    def begin_transactions(self) -> Transactions:
        """Begin to collect transactions, and return the collection; whoever begins it takes them and advances it."""
        self.transactions = Transactions(self.admission.queries, self.bounds.owned, self._counters)
        return self.transactions

    def begin_connections(self) -> ConnectionStages:
        """Begin to collect the stages of connections, and return the collection; whoever begins it takes them."""
        self.connections = collected = ConnectionStages()
        self.binder.bindings.on_stage = collected.note
        return collected

    def end_connections(self) -> None:
        """Collect no more stages of connections."""
        self.connections = self.binder.bindings.on_stage = None

    def feed(self, stamp: int, payload: bytes, circumstances: Circumstances = _UNKNOWN) -> FeedOutcome:
        """Apply one DNS message from its wire form, and return its outcome.

        Any bytes are accepted: a message without effect is counted by its reason, and nothing is raised.
        """
        if stamp > self.now:
            self.now = stamp
        self.live = circumstances.live
        self._messages += 1
        header = self._read(stamp, payload, circumstances)
        if header is None:
            return _IGNORED
        verdict = self.admission.answered(stamp, header, payload, circumstances)
        query, flow = verdict.query, circumstances.flow
        if self.on_response is not None and query is not None and flow is not None and query.party[1]:
            self.on_response(flow, header.flags & _RCODE, stamp - query.ended[0])
        outcome = self._respond(stamp, header, payload, circumstances, verdict)
        if self.transactions is not None:
            self.transactions.answered(stamp, header, payload, circumstances, verdict)
        return outcome

    def get(
        self, key: str, *, now: int | None = None, at: int | None = None, connection: Connection | None = None
    ) -> LookupResult | None:
        """Look up a name or an address as of `now` (default: the clock), or as of the past time `at`.

        A lookup without `at` is a use of the root whose answer found the result. The name of the connection, if it is
        known and open, comes first, also if its answers are gone.
        """
        if at is None and connection is None:
            usual = look_up_usual(self.store.graph, key, self.now if now is None else now, self._usual)
            if usual is not None:
                self.store.places.use(usual[1])
                return usual[0]
        node = self._node(key) if connection is None else lookup_key(key)
        if not node:
            return None
        host = connection.host if connection is not None and connection.host else ""
        view, roots, nodes = self.view(now=now, at=at, host=host), self.store.places.roots, self.bounds.nodes
        found = self._result(look_up_by_walks(view, roots, node, nodes), at)
        meaning = None if connection is None else self.binder.meaning(node, connection, view.t)
        if meaning is not None:
            found = put_first(found, meaning.name, self.view(now=now, at=at, host=host), node, nodes)
        if found is None or at is None or self.remembers(at, connection):
            return found
        return msgspec.structs.replace(found, history=False)

    def get_many(
        self, keys: Iterable[str], *, now: int | None = None, at: int | None = None
    ) -> list[LookupResult | None]:
        """Look up several keys as of one time, within the bounds of one lookup; a repeated key is looked up once."""
        view, roots = self.view(now=now, at=at), self.store.places.roots
        known: dict[str, LookupResult | None] = {"": None}
        results = []
        for key in keys:
            if key not in known:
                node = self._node(key) or ""
                if node not in known:
                    known[node] = self._result(look_up(view, roots, node, self.bounds.nodes), at)
                known[key] = known[node]
            results.append(known[key])
        return results

    def trails(
        self,
        key: str,
        connection: Connection = _ANYBODY,
        *,
        now: int | None = None,
        at: int | None = None,
        limit: int = MAX_TRAILS,
    ) -> Trails | None:
        """Return the paths from questions to a key, the likeliest first, with expired ones; None if there are none."""
        node = lookup_key(key)
        if not node:
            return None
        host = connection.host or ""
        view, held = self.view(now=now, at=at, host=host), self.held(now, at, host)
        roots, nodes = self.store.places.roots, self.bounds.nodes
        connection = self.binder.identified(connection, view.t)
        meaning = self.binder.meaning(node, connection, view.t)
        found = find_trails(view, held, roots, node, nodes, connection, self.server_names, limit, meaning)
        if found is None or at is None or self.remembers(at, connection):
            return found
        return msgspec.structs.replace(found, history=False)

    def failed(self, key: str, at: int | None = None, host: str | None = None) -> Failure | None:
        """Return the last question for a key that brought no data, until the past time `at`; None without one.

        With `host` only a question of this host counts.
        """
        failure = self.failures.last(lookup_key(key) or "", at)
        return failure if failure is None or host in (None, failure.evidence.host) else None

    def hosts_of(self, question: str) -> list[str]:
        """Return the hosts that asked a question, the last one first: of the held answers, the newest alone."""
        root = self.store.places.roots.get(question)
        answers: list[Sighting] = []
        for record in reversed(root.records() if root is not None else []):
            answers += record.sightings()
            if len(answers) >= _MOST_ASKED:
                break
        newest = sorted(answers, key=lambda one: -one.number)
        return [*dict.fromkeys([one.evidence.host for one in newest if one.evidence.host])]

    def names_of_address(self, address: str, *, now: int | None = None, at: int | None = None) -> AddressNames:
        """Return the live names of an address, to be ordered for connections to it, as in `dst_dns`.

        They are the names of `get(address)`, except at a sinkhole address (0.0.0.0/8, 127.0.0.0/8, ::, ::1). A text
        that is no address has no names. Unlike `get`, this is not a use of a root.
        """
        view, roots, nodes = self.view(now=now, at=at), self.store.places.roots, self.bounds.nodes
        return AddressNames(view, self.held(now, at), roots, address_text(address) or "", nodes, self.server_names)

    def note_connection(self, stamp: int, connection: Connection, address: str) -> None:
        """Count a connection to an address for the answer that it followed."""
        note_connection(self.store.graph, stamp, connection, address)

    def note_server_name(self, address: str, sighting: ServerNameSighting) -> None:
        """Note the server name that a client sent to an address."""
        self.server_names.note(address, sighting)

    def view(self, *, now: int | None = None, at: int | None = None, host: str = "") -> View:
        """Return the relations that are live at `now`, or that were live at `at`; with `host`, by its answers."""
        when = self.now if now is None else now
        return View(self.store.graph, when if at is None else at, self._grace, at, self.bounds.walked, host)

    def remembers(self, at: int, connection: Connection | None = None) -> bool:
        """Return whether everything that was live at `at` is still held.

        For a lookup that means one connection these are also the connections that were open.
        """
        if self.store.forgotten is not None and at < self.store.forgotten:
            return False
        return connection is None or not connection.means_one or self.binder.bindings.remembers(at)

    def forget(self, end: int) -> None:
        """Declare that nothing is held from before `end`."""
        self.store.forget(end)

    def gap(self, stamp: int, host: str = "", cgroup: int = 0, owner: int = 0) -> None:
        """Put the party of a cgroup in doubt; without a cgroup all parties of an owner, of a host, or all parties."""
        self.admission.gap(stamp, host, cgroup, owner)

    def sweep(self, steps: int) -> None:
        """Handle at most `steps` deadlines, which removes ended answers. Only `history` of a lookup shows this."""
        self.store.sweep(self.now, steps, live=self.live)

    def held(self, now: int | None, at: int | None, host: str = "") -> View:
        """Return the view that also contains ended relations until the history is over, swept or not."""
        view = self.view(now=now, at=at)
        lasting = self.bounds.grace_ns + (self.bounds.history_ns if self.live else _ALWAYS)
        return View(view.graph, view.t, lasting, at, self.bounds.walked, host)

    def _node(self, key: str) -> str | None:
        """Return a key in its canonical form; None if the graph does not contain it."""
        graph = self.store.graph
        if key in graph:
            return key
        node = lookup_key(key)
        return node if node and node in graph else None

    def _result(self, looked_up: tuple[LookupResult, Root] | None, at: int | None) -> LookupResult | None:
        """Return the result of a lookup. Without `at`, its root is used."""
        if looked_up is None:
            return None
        found, root = looked_up
        if at is None:
            self.store.places.use(root)
        elif not self.remembers(at):
            return msgspec.structs.replace(found, history=False)
        return found

    def _read(self, stamp: int, payload: bytes, circumstances: Circumstances) -> Header | None:
        """Return the header of a response that counts; None for any other message, which is counted by its reason."""
        try:
            header = read_header(payload)
        except BadMessage:
            self._counters["bad_message"] += 1
            return None
        reason = refusal(header, circumstances.flow)
        if not reason:
            return header
        if reason != "query":
            self._counters[reason] += 1
        else:
            self._queries += 1
            query = self.admission.asked(stamp, header, payload, circumstances)
            if query is not None and self.transactions is not None:
                self.transactions.asked(stamp, header, payload, circumstances, query)
            self.binder.asked(stamp, header.asked, circumstances)
        return None

    def _respond(
        self, stamp: int, header: Header, payload: bytes, circumstances: Circumstances, verdict: Verdict
    ) -> FeedOutcome:
        """Apply a response after the verdict on it."""
        if header.answer_count == 0:
            self._empty += 1
            self.admission.note(verdict, ())
            self._note_failure(stamp, header, circumstances, verdict)
            return _IGNORED
        if not verdict.admitted and not verdict.copy:
            self._counters["not_admitted"] += 1
        if not verdict.admitted and verdict.first is None:
            return _IGNORED
        if circumstances.behind and (owner := self._skip(stamp, header, len(payload), circumstances, verdict)):
            return FeedOutcome(skipped=owner)
        answer = read_answer(payload, header, circumstances.flow, self._counters, self.bounds.owned)
        verdict.answer = answer
        conflict = self.admission.note(verdict, answer.edges)
        if verdict.admitted:
            self._apply(answer, stamp, circumstances, verdict)
        if not conflict:
            return _ADMITTED if verdict.admitted else _IGNORED
        self._counters["answer_conflict"] += 1
        return FeedOutcome(verdict.admitted, conflict=True)

    def _note_failure(self, stamp: int, header: Header, circumstances: Circumstances, verdict: Verdict) -> None:
        """Note that a question brought no data. A client repeats a truncated one over TCP."""
        if verdict.matched and not verdict.copy and header.asked.owner and not header.flags & _TRUNCATED:
            evidence = evidence_of(header.asked.type, circumstances, verdict)
            host, sort, _, owner = asking_share(circumstances, verdict)
            failure = Failure(stamp if circumstances.live else self.now, header.flags & _RCODE, evidence)
            self.failures.note(header.asked.owner, (host, sort, owner), failure)

    def _skip(
        self, stamp: int, header: Header, size: int, circumstances: Circumstances, verdict: Verdict
    ) -> PartyKey | None:
        """Skip a response beyond the part of its party in the work, and return its owner; else return None."""
        owner, party = sharing(circumstances, verdict)
        if not self._shares.is_beyond(stamp, owner, party, cost_of(header, size)):
            return None
        self._counters["skipped_behind"] += 1
        self.admission.note(verdict, ())
        return owner

    def _share(self, evidence: Evidence) -> Evidence:
        """Return the evidence of the answer before if it is the same, so that both share it."""
        last = self._last_evidence
        if last is not None and evidence == last:
            return last
        self._last_evidence = evidence
        return evidence

    def _apply(self, answer: Answer, stamp: int, circumstances: Circumstances, verdict: Verdict) -> None:
        if not answer.edges:
            self._counters["unrelated"] += 1
            return
        self._related += 1
        live = circumstances.live
        evidence = self._share(evidence_of(answer.type, circumstances, verdict))
        sighting = Sighting(stamp if live else self.now, stamp, self.store.answers + 1, answer.lives, evidence)
        share = asking_share(circumstances, verdict)
        self.store.apply(answer, sighting, share, self.now, doubted=verdict.doubted, live=live)
        if evidence.process is not None and not verdict.doubted:
            asked = stamp if verdict.query is None else verdict.query.ended[0]
            self.binder.answered(answer, sighting, asked, circumstances.host)
