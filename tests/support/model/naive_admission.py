"""Admission of responses: a plain list of the queries that were seen (docs/inside/image.md, Admission)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from dnstrail.captured import Flow, Process
from model.instants import SECOND
from model.naive_wire import Heading

WINDOW = 30 * SECOND  # for which a query waits, and for which a party is in doubt
REORDER = SECOND  # by which the stamp of a response may precede its query
COPY = SECOND // 10  # within which equal bytes are copies of one packet
SIGHTINGS = 64  # of one query that wait
SHARE, WAITING = 1024, 16384  # queries of one party that wait, and of all parties

IN_DOUBT = 64  # parties of one owner; beyond it the owner is in doubt

Party = tuple[object, ...]  # (host, "cgroup", id), (host, "namespace", id) or (host,)


class Whose(NamedTuple):
    """A party, and its owner."""

    party: Party
    owner: Party


def whose(flow: Flow | None, process: Process | None, host: str) -> Whose:
    """Return what loses events together, and what has one share."""
    if process is not None and process.cgroup_id:
        owner = process.owner or process.cgroup_id
        return Whose((host, "cgroup", process.cgroup_id), (host, "cgroup", owner))
    party = (host, "namespace", flow.namespace) if flow is not None and flow.namespace else (host,)
    return Whose(party, party)


def plain(packed: bytes) -> bytes:
    """Return an IPv4-mapped address as IPv4."""
    return packed.removeprefix(bytes(10) + b"\xff\xff")


def socket_of(flow: Flow) -> tuple[int, int] | None:
    """Return the socket of a packet, None if it is unknown."""
    return (flow.socket, flow.namespace) if flow.socket else None


class Verdict(NamedTuple):
    """The decision on a message; `related` is whether it states relations. None: either is right.

    `asker` is the cgroup that sent the query, None if it is unknown.
    """

    admitted: bool
    matched: bool = False
    doubted: bool = False
    copy: bool = False
    conflict: bool | None = False
    related: bool = False
    asker: Whose | None = None


@dataclass(eq=False)
class Sighting:
    """One sighting of a query; `targets` are those of the response that it admitted.

    `asker` is the cgroup that sent the query, None if it is unknown.
    """

    stamp: int
    payload: bytes
    heading: Heading
    flow: Flow
    whose: Whose
    state: str = "waiting"  # or answered, or evicted
    targets: frozenset[str] = frozenset()
    asker: Whose | None = None

    @property
    def side(self) -> tuple[Party, bool]:
        """Return its party, and whether the party sent it."""
        return self.whose.party, self.flow.egress

    @property
    def owned(self) -> tuple[Party, bool]:
        """Return the owner of its party, and whether the party sent it."""
        return self.whose.owner, self.flow.egress

    @property
    def client(self) -> tuple[bytes, int]:
        """Return address and port of the client."""
        return plain(self.flow.source), self.flow.source_port

    @property
    def query(self) -> tuple[object, ...]:
        """Return what its retransmissions have in common."""
        asked = self.heading.id, self.heading.question
        return socket_of(self.flow), self.flow.egress, self.client, *asked, plain(self.flow.destination)

    def waits(self, now: int) -> bool:
        """Return whether it waits for its response."""
        return self.state == "waiting" and now - self.stamp <= WINDOW

    def is_asked_by(self, stamp: int, heading: Heading, came: Flow) -> bool:
        """Return whether a response is one to this query, answered or not."""
        if (self.heading.id, self.heading.question) != (heading.id, heading.question):
            return False
        if not -REORDER <= stamp - self.stamp <= WINDOW:
            return False
        client = plain(came.destination), came.destination_port
        if self.flow.socket and came.socket:
            same = socket_of(self.flow) == socket_of(came) and self.flow.egress != came.egress
            return same and (self._is_from_the_server(came) if self.flow.egress else self.client == client)
        return self.client == client and self._is_from_the_server(came)

    def _is_from_the_server(self, came: Flow) -> bool:
        at_the_server = (came.socket and came.egress) or (self.flow.socket and not self.flow.egress)
        servers = {plain(self.flow.meant), plain(self.flow.destination)} - {b""}
        return bool(at_the_server) or not servers or not came.source or plain(came.source) in servers


@dataclass(eq=False)
class Packet:
    """One response, of which there may be several copies."""

    stamp: int
    payload: bytes
    client: tuple[bytes, int]
    kept: bool = False
    matched_at: list[tuple[int, int] | None] = field(default_factory=list)  # the sockets at which it ended a wait


class NaiveAdmission:
    """All queries, packets and doubts that were ever seen."""

    def __init__(self, unmatched: str) -> None:
        self.unmatched = unmatched
        self.sightings: list[Sighting] = []
        self._packets: list[Packet] = []
        self._losses: list[tuple[int, str]] = []  # of whole hosts: stamp, host
        self._doubts: list[tuple[int, Whose, bool]] = []  # stamp, party and owner, and whether it sends
        self._owners: list[tuple[int, Party]] = []  # losses of whole owners
        self._latest = 0

    def gap(self, stamp: int, host: str = "", cgroup: int = 0, owner: int = 0) -> None:
        """Note a loss of one party, of one owner, of one host, or of all."""
        if cgroup:
            lost = Whose((host, "cgroup", cgroup), (host, "cgroup", owner or cgroup))
            self._doubts += [(stamp, lost, True), (stamp, lost, False)]
        elif owner:
            self._owners.append((stamp, (host, "cgroup", owner)))
        else:
            self._losses.append((stamp, host))

    def asked(self, stamp: int, payload: bytes, heading: Heading, flow: Flow | None, of: Whose) -> None:
        """Note one sighting of a query."""
        if flow is None:
            return
        self._latest = max(self._latest, stamp)
        new = Sighting(stamp, payload, heading, flow, of)
        alike = [one for one in self.sightings if one.query == new.query and abs(stamp - one.stamp) <= WINDOW]
        if any(one.payload == payload and abs(stamp - one.stamp) <= COPY for one in alike):
            return
        new.asker = self._asker(new, [one for one in alike if one.waits(stamp)])
        self.sightings.append(new)
        waiting = [one for one in (*alike, new) if one.waits(self._latest)]
        if len(waiting) > SIGHTINGS:
            self._evict(waiting[:1], stamp)
        self._bound(new.owned, stamp)

    def _asker(self, new: Sighting, earlier: list[Sighting]) -> Whose | None:
        """Return the cgroup that sent a query: at its own socket, or just before it arrives at the server's."""
        if new.flow.egress and "cgroup" in new.whose.party[1:2]:
            return new.whose
        asked = new.client, new.heading.id, new.heading.question
        sent = [
            one.asker
            for one in self.sightings
            if one.flow.egress
            and abs(new.stamp - one.stamp) <= COPY
            and (one.client, one.heading.id, one.heading.question) == asked
        ]
        return ([one.asker for one in earlier] or sent or [None])[-1]

    def answered(
        self,
        stamp: int,
        payload: bytes,
        heading: Heading,
        flow: Flow | None,
        of: Whose,
        targets: frozenset[str],
        *,
        live: bool,
        asked: bool = False,
    ) -> Verdict:
        """Return the verdict on a response with these targets."""
        self._latest = max(self._latest, stamp)
        if flow is None:
            return Verdict(admitted=True, matched=True) if asked else self._unmatched(stamp, None, of, live=live)
        packet, copy = self._packet(stamp, payload, flow)
        sighting = None if socket_of(flow) in packet.matched_at else self._waiting_for(stamp, heading, flow)
        conflict = sighting is None and not copy and self._conflicts(stamp, heading, flow, targets)
        if sighting is not None:
            sighting.state = "answered"
            packet.matched_at.append(socket_of(flow))
            sighting.targets = targets
        if packet.kept:
            return Verdict(admitted=False, matched=sighting is not None, copy=True)
        matched = asked or sighting is not None
        verdict = Verdict(admitted=True, matched=True) if matched else self._unmatched(stamp, flow, of, live=live)
        packet.kept = verdict.admitted
        return verdict._replace(conflict=conflict, asker=sighting and sighting.asker)

    def _packet(self, stamp: int, payload: bytes, flow: Flow) -> tuple[Packet, bool]:
        """Return the packet of which this is a capture, and whether it is a further one."""
        client = plain(flow.destination), flow.destination_port
        for packet in self._packets:
            if (packet.payload, packet.client) == (payload, client) and abs(stamp - packet.stamp) <= COPY:
                return packet, True
        self._packets.append(Packet(stamp, payload, client))
        return self._packets[-1], False

    def _waiting_for(self, stamp: int, heading: Heading, flow: Flow) -> Sighting | None:
        waiting = [one for one in self.sightings if one.state == "waiting" and one.is_asked_by(stamp, heading, flow)]
        return min(waiting, key=lambda one: one.stamp, default=None)

    def _conflicts(self, stamp: int, heading: Heading, flow: Flow, targets: frozenset[str]) -> bool | None:
        """Return whether this is a second response to an answered query that shares no target with the first.

        Return None where only some of the sightings that it may belong to had such a response.
        """
        answered = [one for one in self.sightings if one.state == "answered" and one.is_asked_by(stamp, heading, flow)]
        disjoint = {bool(targets and one.targets) and one.targets.isdisjoint(targets) for one in answered}
        return None if len(disjoint) > 1 else True in disjoint

    def _unmatched(self, stamp: int, flow: Flow | None, of: Whose, *, live: bool) -> Verdict:
        if self.unmatched != "auto":
            return Verdict(admitted=self.unmatched == "accept")
        if not live or flow is None or not flow.socket:
            return Verdict(admitted=True)
        doubted = self._in_doubt(stamp, of, sent=not flow.egress)
        return Verdict(admitted=doubted, doubted=doubted)

    def _in_doubt(self, stamp: int, of: Whose, *, sent: bool) -> bool:
        """Return whether queries that this party sent (or received) may be missing."""
        party, owner = of
        lost = {whose for when, whose, sends in self._doubts if stamp - when <= WINDOW and sends == sent}
        return (
            party in {one.party for one in lost}
            or len({one.party for one in lost if one.owner == owner}) > IN_DOUBT
            or any(stamp - when <= WINDOW and one == owner for when, one in self._owners)
            or any(stamp - when <= WINDOW and host in ("", party[0]) for when, host in self._losses)
        )

    def _bound(self, owned: tuple[Party, bool], stamp: int) -> None:
        """Evict the oldest query of the party with most of an owner that has more than its share.

        A host has an equal part of all, and an owner an equal part of this.
        """
        waiting = [one for one in self.sightings if one.waits(self._latest)]
        owners = {one.owned for one in waiting}
        part = WAITING // len({owner[0] for owner, _ in owners} or {None})
        share = min(SHARE, part // len([owner for owner, _ in owners if owner[0] == owned[0][0]] or [None]))
        own = [one for one in waiting if one.owned == owned]
        if len({one.query for one in own}) > share:
            queries = Counter(party for party, _ in {(one.whose.party, one.query) for one in own})
            most = max(queries.values())
            oldest = min((one for one in own if queries[one.whose.party] == most), key=lambda one: one.stamp)
            self._evict([one for one in own if one.query == oldest.query], stamp)

    def _evict(self, sightings: list[Sighting], stamp: int) -> None:
        for one in sightings:
            one.state = "evicted"
            self._doubts.append((stamp, one.whose, one.flow.egress))
