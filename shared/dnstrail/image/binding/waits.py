"""All that waits for a connection, in equal parts for hosts and for the owners of each host."""

from __future__ import annotations

from dnstrail.captured import Process
from dnstrail.image.binding.processes import Identity
from dnstrail.image.binding.waiting import Arrivals, ConnectionAttempt, WaitingQuestion, WaitingQuestions
from dnstrail.image.bounds import Counts
from dnstrail.image.holders import MAX_PARTIES
from dnstrail.image.order import Link, Ring

_Owner = tuple[str, int]  # a host, and the number of an owner


class Part:
    """What waits of the processes of one party: `held` is its number as it was counted last.

    The parties of an owner beyond MAX_PARTIES have one part.
    """

    __slots__ = ("arrivals", "held", "number", "owner", "waiting")

    def __init__(self, number: int, owner: OwnerParts, counters: Counts) -> None:
        self.number = number
        self.owner = owner
        self.held = 0
        self.arrivals = Arrivals(counters)
        self.waiting = WaitingQuestions(counters)

    def holds(self, identity: Identity) -> bool:
        """Return whether anything of a process waits."""
        return self.arrivals.holds(identity) or self.waiting.holds(identity)

    def evict(self) -> Identity:
        """Evict a question of an ended process, or one of those that are more than half, else the oldest arrival.

        Return the process that loses it.
        """
        waiting, arrivals = self.waiting, self.arrivals
        if waiting.has_ended or waiting.held > arrivals.held or not arrivals.held:
            return waiting.evict()
        return arrivals.evict_oldest()


class OwnerParts(Link):
    """The parts of the parties of one owner; `held` is the sum of what they hold."""

    __slots__ = ("held", "key", "parts")

    def __init__(self, key: _Owner) -> None:
        super().__init__()
        self.key = key
        self.held = 0
        self.parts: dict[int, Part] = {}

    def largest(self) -> Part:
        """Return the part of the party with most; of equal ones the one that is older."""
        largest = next(iter(self.parts.values()))
        for part in self.parts.values():
            if part.held > largest.held:
                largest = part
        return largest


class Waits:
    """What waits for a connection: `held` is its number, at most `most`.

    Hosts have equal parts of it, and the owners of a host of the part of the host. Beyond `most` an owner with more
    than its part evicts: what its largest party holds. Evictions are counted as `evicted_questions`.
    """

    def __init__(self, most: int, counters: Counts) -> None:
        self.counters = counters
        self.held = 0
        self._most = most
        self._of: dict[Identity, Part] = {}  # by process: it stays in its part while anything of it waits
        self._hosts: dict[str, int] = {}  # the number of owners of each
        self._owners: dict[_Owner, OwnerParts] = {}
        self._order = Ring[OwnerParts]()  # the first one is the next that may have more than its part

    def of(self, identity: Identity) -> Part | None:
        """Return the part in which anything of a process waits."""
        return self._of.get(identity)

    def join(self, identity: Identity, process: Process) -> Part:
        """Return the part of a process; beyond MAX_PARTIES of its owner the one of the owner's own cgroup."""
        part = self._of.get(identity)
        if part is not None:
            return part
        owned, number = process.owner or process.cgroup_id, process.cgroup_id
        key = identity[0], owned
        owner = self._owners.get(key)
        if owner is None:
            owner = self._owners[key] = OwnerParts(key)
            self._hosts[key[0]] = self._hosts.get(key[0], 0) + 1
            self._order.append(owner)
        if number not in owner.parts and len(owner.parts) >= MAX_PARTIES:
            number = owned
        part = owner.parts.get(number)
        if part is None:
            part = owner.parts[number] = Part(number, owner, self.counters)
        self._of[identity] = part
        return part

    def added(self, part: Part) -> None:
        """Count what was added to a part, and evict beyond the bound."""
        self._count(part)
        while self.held > self._most:
            largest = self._beyond(part.owner).largest()
            self.taken(largest.evict(), largest)

    def taken(self, identity: Identity, part: Part) -> None:
        """Count what a part holds since something of a process was taken; forget who has nothing any more."""
        self._count(part)
        if not part.holds(identity):
            self._of.pop(identity, None)
        owner = part.owner
        if not part.held and owner.parts.pop(part.number, None) is not None and not owner.parts:
            self._remove(owner)

    def spend(self, question: WaitingQuestion, attempt: ConnectionAttempt) -> None:
        """Spend a question for a connection."""
        part = self._of.get(question.owner)
        if part is not None:
            part.waiting.spend(question, attempt)

    def drop_spent(self, question: WaitingQuestion, attempt: ConnectionAttempt) -> None:
        """Drop the questions that a connection spent which succeeded."""
        part = self._of.get(question.owner)
        if part is not None:
            part.waiting.drop_spent(question, attempt)
            self.taken(question.owner, part)

    def _beyond(self, present: OwnerParts) -> OwnerParts:
        """Return an owner with more than its part, the present one first. Its place in the order stays until then."""
        if present.parts and present.held > self._part_of(present):
            return present
        for _ in range(len(self._owners)):
            owner = self._order.first()
            if owner.held > self._part_of(owner):
                return owner
            self._order.append(owner)
        return present if present.parts else next(iter(self._owners.values()))

    def _part_of(self, owner: OwnerParts) -> int:
        host = owner.key[0]
        return max(self._most // len(self._hosts) // self._hosts[host], 1)

    def _count(self, part: Part) -> None:
        held = part.arrivals.held + part.waiting.held
        more = held - part.held
        part.held = held
        part.owner.held += more
        self.held += more

    def _remove(self, owner: OwnerParts) -> None:
        host = owner.key[0]
        del self._owners[owner.key]
        owner.remove_link()
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]
