"""Transactions: all questions that were captured, and all responses that came without one.

It follows the section on transactions in docs/inside/image.md, and knows no bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import dns.rdatatype
from dns.name import Name

from dnstrail.captured import FORWARDER, Flow, Process
from model.instants import SECOND
from model.naive_admission import COPY, WINDOW, NaiveAdmission, Packet, Sighting, plain, socket_of, whose
from model.naive_relate import longest, stated_by
from model.naive_wire import Heading, name_text, read_all_answers

TRUNCATED = 0x0200
OUTCOMES = {3: "nxdomain", 5: "refused"}
Fact = dict[str, Any]


class Seen(NamedTuple):
    """One captured message: the id of its fact, and its circumstances.

    `call`: getaddrinfo returned it. `relay`: the process to whose socket NAT passes it.
    """

    id: str
    stamp: int
    payload: bytes
    heading: Heading
    flow: Flow | None
    process: Process | None
    host: str
    call: bool = False
    relay: tuple[int, int] | None = None

    @property
    def is_own(self) -> bool:
        """Return whether it was captured at the socket of the asker."""
        socket = self.flow is not None and self.flow.socket != 0
        return self.call or (socket and self.flow is not None and self.flow.egress == self.heading.is_query)

    @property
    def to_forwarder(self) -> bool:
        """Return whether it was captured at the socket by which a forwarder asks."""
        return self.is_own and self.flow is not None and self.flow.role == FORWARDER

    @property
    def owner(self) -> tuple[str, int, int] | None:
        """Return the process at whose socket it was captured."""
        return None if self.process is None else (self.host, self.process.pid, self.process.start_time)

    @property
    def receiver(self) -> tuple[str, int, int] | None:
        """Return the process that received the question, if this capture shows it."""
        if not self.is_own:
            return self.owner
        return None if self.relay is None else (self.host, *self.relay)


class Capture(NamedTuple):
    """One capture of a question, and the sighting of admission."""

    seen: Seen
    sighting: Sighting

    @property
    def key(self) -> tuple[object, ...]:
        """Return what all tries of a question have in common that were captured at one socket."""
        flow, asked = self.sighting.flow, (self.seen.host, self.sighting.heading.id, self.sighting.heading.question)
        if flow.socket and flow.egress:
            return (socket_of(flow), *asked)
        return (socket_of(flow), flow.transport, self.sighting.client, *asked)


@dataclass(eq=False)
class Reply:
    """One response, with all its captures, and the verdict on the first that counts."""

    seen: list[Seen]
    packet: Packet | None
    admitted: bool
    matched: bool
    doubted: bool
    used: bool = False

    def fact(self) -> Fact:
        """Return the part of a fact that a response states."""
        first = self.seen[0]
        stated = longest(stated_by(first.payload, to_forwarder=first.to_forwarder)[1])
        return {
            "ended": first.stamp,
            "outcome": outcome_of(first.payload, first.heading),
            "rcode": first.heading.flags & 15,
            "relations": sorted((*one.relation, one.ttl) for one in stated),
            "matched": self.matched,
            "doubted": self.doubted,
            "admitted": self.admitted,
        }


@dataclass(eq=False)
class Question:
    """One question: its captures, the one nearest to the asker, and how it ended. `times` are those of its tries."""

    captures: list[Capture]
    nearest: Capture
    times: list[int]
    tries: int = 1
    asked_for: str = ""
    end: Fact | None = None

    @property
    def id(self) -> str:
        """Return the id of its fact."""
        return self.captures[0].seen.id

    @property
    def latest(self) -> int:
        """Return the stamp of the last try."""
        return max(self.times)

    def is_at(self, capture: Capture, within: int | None = None) -> bool:
        """Return whether another try of it was captured at the same socket, within a time before."""
        same = [one for one in self.captures if one.key == capture.key]
        return any(within is None or capture.seen.stamp - one.seen.stamp <= within for one in same)

    def is_open(self, stamp: int) -> bool:
        """Return whether it waits for an answer."""
        return self.end is None and stamp - self.latest <= WINDOW

    def fact(self) -> Fact:
        """Return its fact."""
        near = self.nearest.seen
        return {
            **described(near),
            "id": self.id,
            "asked": min(self.times),
            "flow": near.flow,
            "tries": self.tries,
            "asked_for": self.asked_for,
            "ended": self.latest + WINDOW,
            "outcome": "unanswered",
            "rcode": -1,
            "relations": [],
            "matched": False,
            "doubted": False,
            "admitted": False,
            **(self.end or {}),
        }


def described(seen: Seen) -> Fact:
    """Return who asked for what."""
    hop = "served" if not seen.is_own else "forwarder" if seen.to_forwarder else "client"
    name, kind, _ = seen.heading.question
    process = seen.process if seen.is_own else None
    return {"host": seen.host, "name": name_text(name), "type": kind, "process": process, "hop": hop}


def outcome_of(payload: bytes, heading: Heading) -> str:
    """Return the outcome by the records of a response."""
    if heading.flags & TRUNCATED:
        return "truncated"
    if heading.flags & 15:
        return OUTCOMES.get(heading.flags & 15, "failed")
    records = read_all_answers(payload, heading)
    reached: set[Name] = {heading.name}
    for _ in records:
        reached |= {one.rdata.target for one in records if one.kind == "CNAME" and one.owner in reached}
    asked = dns.rdatatype.to_text(heading.question[1])
    wanted = [one for one in records if asked in ("ANY", one.kind)]
    return "answered" if any(one.owner in reached for one in wanted) else "no_data"


class NaiveTransactions:
    """All questions and responses, in the order of their arrival. Nobody learns of a fact before `facts`."""

    def __init__(self, unmatched: str, *, live: bool) -> None:
        self.live = live
        self.admission = NaiveAdmission(unmatched)
        self.questions: list[Question] = []
        self.loose: list[Reply] = []
        self.arrived: list[Seen] = []

    def feed(self, seen: Seen) -> None:
        """Note one message."""
        of = whose(seen.flow, seen.process, seen.host)
        self.arrived.append(seen)
        if not seen.heading.is_query:
            self._answered(seen)
            return
        known = len(self.admission.sightings)
        self.admission.asked(seen.stamp, seen.payload, seen.heading, seen.flow, of)
        for sighting in self.admission.sightings[known:]:
            self._asked(Capture(seen, sighting))

    def facts(self) -> list[Fact]:
        """Return all facts, once everything has arrived and all waits are over."""
        alone = [one for one in self.loose if one.admitted and not (one.used or self._belongs_to_an_ended(one))]
        return [one.fact() for one in self.questions] + [
            {**described(one.seen[0]), "id": one.seen[0].id, "asked": 0, "tries": 0, "asked_for": "", **one.fact()}
            for one in alone
        ]

    def _asked(self, new: Capture) -> None:
        """Note a sighting: a retry, a further capture of the packet of a question, or a new question."""
        stamp = new.seen.stamp
        for question in self.questions:
            if question.is_open(stamp) and question.is_at(new, WINDOW):
                question.captures.append(new)
                if new.key == question.nearest.key:
                    question.tries += 1
                    question.times.append(stamp)
                return
        own, through_nat = ([one for one in self.questions if fits(new, one)] for fits in (self._has, self._has_by_nat))
        question = next(reversed(own or through_nat), None)
        if question is None:
            question = Question([new], new, [stamp])
            self.questions.append(question)
        else:
            question.captures.append(new)
            if new.seen.is_own and not question.nearest.seen.is_own:
                question.nearest = new
                question.times.append(stamp)
        if question.nearest is new:
            question.asked_for = self._client_of(new.seen, question)
        if question.is_open(stamp):
            self._look_back(question, new)

    def _has(self, new: Capture, question: Question) -> bool:
        """Return whether a packet with this question was captured before, at this socket or of this client."""
        return any(
            one.key == new.key
            or (self._left_and_arrived(new, question) and transport_and_client(one) == transport_and_client(new))
            for one in self._of_packet(new, question)
        )

    def _has_by_nat(self, new: Capture, question: Question) -> bool:
        """Return whether a packet with this question was captured before, where its client has another address."""
        return self._left_and_arrived(new, question) and any(
            self._passed_nat(one, new, question) for one in self._of_packet(new, question)
        )

    def _of_packet(self, new: Capture, question: Question) -> list[Capture]:
        """Return the captures of a question that have the bytes of a packet, at the time of a try."""
        if not any(abs(time - new.seen.stamp) <= COPY for time in question.times):
            return []
        same = new.seen.host, new.seen.payload
        return [one for one in question.captures if (one.seen.host, one.seen.payload) == same]

    def _left_and_arrived(self, new: Capture, question: Question) -> bool:
        """Return whether a capture can be one packet with those of a question: two that left their askers are two."""
        return not (question.nearest.seen.is_own and new.seen.is_own)

    def _passed_nat(self, one: Capture, new: Capture, question: Question) -> bool:
        """Return whether two captures with the same bytes are one packet before and behind NAT."""
        before, after = one.sighting.flow, new.sighting.flow
        server = one.seen if new.seen.is_own else new.seen  # it is known whose socket the server's is
        arrived = [each for each in question.captures if not each.seen.is_own and each.seen.process]
        through_nat = before.egress != after.egress and before.namespace != after.namespace
        of_server = server.process is not None and (new.seen.is_own or not arrived)
        return before.transport == after.transport and through_nat and of_server

    def _client_of(self, seen: Seen, question: Question) -> str:
        """Return the id of the client's question for which a forwarder asks: the first one that it received."""
        received: list[tuple[int, Question]] = []
        for other in self.questions if seen.to_forwarder and seen.process else ():
            first = next((one.seen for one in other.captures if one.seen.receiver is not None), None)
            same = other.nearest.seen.heading.question == seen.heading.question
            if other is question or first is None or not same or not other.is_open(seen.stamp):
                continue
            if first.receiver == seen.owner:  # NAT passes a question to one process
                received.append((int(first.id.split("/")[1]), other))
        if not received:
            return ""
        _, client = min(received, key=lambda one: one[0])
        return client.asked_for or client.id

    def _look_back(self, question: Question, new: Capture) -> None:
        """End a question by the first response that came before it."""
        for reply in self.loose:
            first = reply.seen[0]
            came = [one.flow for one in reply.seen if one.flow is not None and one.host == new.seen.host]
            if not reply.used and any(new.sighting.is_asked_by(first.stamp, first.heading, flow) for flow in came):
                reply.used, question.end = True, reply.fact()
                return

    def _answered(self, seen: Seen) -> None:
        """Note a response: it ends a question, is a further capture, or comes without a question."""
        ended, second, reply, copy = self._admit(seen)
        known = [one for one in self.loose if one.packet is not None and one.packet is reply.packet]
        if ended is None and known and (copy or known[0].used or not reply.admitted):
            known[0].seen.append(seen)
            return
        if ended is None and not copy:
            reply.used = second or self._belongs_to_an_ended(reply)
            self.loose.append(reply)
        unused = [one for one in known if not one.used]
        for one in unused if ended is not None or not copy else ():
            one.used = True
        if ended is not None:
            at = Capture(seen, ended)
            question = next((one for one in reversed(self.questions) if one.is_at(at)), None)
            if question is not None and question.end is None:
                question.end = (unused[0] if unused and copy else reply).fact()

    def _admit(self, seen: Seen) -> tuple[Sighting | None, bool, Reply, bool]:
        """Return the sighting whose wait a response ends, whether it is a second one, and whether it is a copy."""
        admission, flow = self.admission, seen.flow
        waiting = [one for one in admission.sightings if one.state == "waiting"]
        answered = [one for one in admission.sightings if one.state == "answered"]
        second = flow is not None and any(one.is_asked_by(seen.stamp, seen.heading, flow) for one in answered)
        targets = frozenset(one.relation[2] for one in stated_by(seen.payload, to_forwarder=seen.to_forwarder)[1])
        of = whose(flow, seen.process, seen.host)
        verdict = admission.answered(
            seen.stamp, seen.payload, seen.heading, flow, of, targets, live=self.live, asked=seen.call
        )
        packet = None if flow is None else admission._packet(seen.stamp, seen.payload, flow)[0]
        ended = next((one for one in waiting if one.state == "answered"), None)
        reply = Reply([seen], packet, verdict.admitted or verdict.copy, verdict.matched, verdict.doubted)
        return ended, second, reply, verdict.copy

    def _belongs_to_an_ended(self, reply: Reply) -> bool:
        """Return whether a response is too late for a question, or a call that belongs to the packet of a question."""
        first = reply.seen[0]
        return any(
            self._is_call_of(first, question) if first.call else self._is_too_late(one, question)
            for one in reply.seen
            for question in self.questions
        )

    def _is_too_late(self, seen: Seen, question: Question) -> bool:
        if question.end is not None or not WINDOW < seen.stamp - question.latest <= 2 * WINDOW:
            return False
        return any(one.seen.host == seen.host and is_to(one, seen) for one in question.captures)

    def _is_call_of(self, call: Seen, question: Question) -> bool:
        """Return whether a question has the process and name of a call, and a packet in its second."""
        near, end = question.nearest.seen, question.end
        stamps = question.times + ([end["ended"]] if end else [])
        same = near.is_own and near.owner == call.owner and near.heading.name == call.heading.name
        waited = call.stamp + 2 * SECOND  # the clock of the stream is a second behind
        if any(one.stamp > waited for one in self.arrived[: self.arrived.index(near)]):
            return False
        return same and near.process is not None and any(abs(call.stamp - stamp) <= SECOND for stamp in stamps)


def transport_and_client(capture: Capture) -> tuple[object, ...]:
    """Return what a question has at each place that it passes without NAT."""
    return capture.sighting.flow.transport, capture.sighting.client


def is_to(question: Capture, seen: Seen) -> bool:
    """Return whether a response came to the socket or to the client of a question."""
    asked, came = question.sighting, seen.flow
    if came is None or (asked.heading.id, asked.heading.question) != (seen.heading.id, seen.heading.question):
        return False
    if asked.flow.socket and socket_of(asked.flow) == socket_of(came) and asked.flow.egress and not came.egress:
        return True
    return asked.flow.transport == came.transport and asked.client == (
        plain(came.destination),
        came.destination_port,
    )
