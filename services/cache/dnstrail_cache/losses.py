"""Losses on the way to the image and to other workers: sums by hop, who is in doubt, what was skipped, and reports."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple

from dnstrail.events import (
    DNS_ANSWER_CONFLICT,
    DNS_TRANSACTION,
    LOSS_REASONS,
    NET_CONNECTION,
    NET_PACKET_DNS,
    NET_TCP_CONNECT,
    NET_UDP_CONNECT,
    PUBLISHED,
    STAGES,
)
from dnstrail.image.answer import CGROUP, CLIENT, PartyKey
from dnstrail.protocol.batches import TURN, CgroupLoss, Mark, Turn
from dnstrail.protocol.lookups import Request

_KERNEL = "kernel"
_BY_CGROUP = frozenset({"tcp_evicted"})  # losses of the probe that are divided like those of the kernel
_HOPS = ("kernel", "probe", "bus", "cache", "decoder", "workers")
SKIPPED = "skipped_behind"  # the counter of the image: answers beyond the part of their owner in the work
_UNREADABLE = ("bad_message",)  # counters of the image: messages that are no DNS
_WORST = 10  # cgroups, or hosts
MOST_TURNS = 16384  # beyond it the oldest counts as whole: no probe replays it any more
MOST_OWNERS = 64  # of one turn; beyond it answers of all owners count as skipped
MOST_COUNTED = 1024  # owners whose skipped answers are counted; those of further ones count together
_FURTHER: PartyKey = ("", "", 0)
MOST_WORKERS = 1024  #: workers that report losses -> the oldest report of the user with the most is added to a total
#: workers of one user, or of one key, that report losses -> its oldest report is added to a total
MOST_WORKERS_OF_USER = 64
MOST_USERS = 1024  # beyond it the reports of the one that reported longest ago are added to a total
MOST_EVENTS = (1 << 53) - 1  # the greatest count that the wire carries
#: losses of one reason (`signature_errors`, `findings_lost`, ...) that a worker reports for each published event, and
#: before the first one -> further ones do not count: `losses_beyond_published`
_LOSSES_OF_EVENT = 1024  # each signature can fail at each event; as many are believed before the first
Reporter = int | str | None  # the user of a connection, or the name of its key


def losses_by_hop(
    probes: Iterable[Turn], bus: Mapping[str, int], image: Mapping[str, int], workers: Mapping[str, int]
) -> dict[str, Any]:
    """Return counts by hop and reason: kernel and probe (from the probes), bus, cache, decoder, workers; their total.

    `bus` is what this cache missed on the bus, `workers` what other workers missed there.

    The counts are events. Two exceptions: losses of dnstap sockets may count connections, and `turn` counts ends of
    turns, which are not in the total.
    """
    hops: dict[str, Counter[str]] = {hop: Counter() for hop in _HOPS}
    for probe in probes:
        for hop, reasons in probe.lost.items():
            hops.setdefault(hop, Counter()).update(reasons)
    hops["bus"] += Counter(bus)
    hops["cache"] += Counter({SKIPPED: image.get(SKIPPED, 0)})
    hops["decoder"] += Counter({reason: image.get(reason, 0) for reason in _UNREADABLE})
    hops["workers"] += Counter(workers)
    total = sum(counts.total() for counts in hops.values()) - hops["bus"][TURN] - hops["workers"][TURN]
    return {**{hop: dict(counts) for hop, counts in hops.items()}, "total": total}


def worst_cgroups(probes: Iterable[Turn]) -> dict[str, int]:
    """Return the losses of the ten cgroups that lost most in the kernel, the greatest first.

    A key contains the name, the id and the host of a cgroup. Cgroups that no probe names count as one for each owner.
    """
    lost: Counter[tuple[str, int, int]] = Counter()
    names: dict[tuple[str, int, int], str] = {}
    for probe in probes:
        for loss in probe.lost_by_cgroup:
            key = probe.host, loss.cgroup, 0 if loss.cgroup else loss.owner
            lost[key] += loss.lost
            names[key] = loss.name or names.get(key, "")
    return {_shown(names[key], *key): count for key, count in lost.most_common(_WORST)}


def losses_by_host(probes: Iterable[Turn], missed: Callable[[str], int]) -> dict[str, int]:
    """Return the losses of the ten hosts that lost most, the greatest first: at their probes, and on the bus.

    `missed` returns the events of a start that this cache missed on the bus. A host states its losses by itself, so
    that a hostile one may state any number.
    """
    lost: Counter[str] = Counter()
    for probe in probes:
        lost[probe.host] += missed(probe.start) + sum(sum(reasons.values()) for reasons in probe.lost.values())
    return {host: count for host, count in lost.most_common(_WORST) if count}


def worst_owners(skipped: Counter[PartyKey]) -> dict[str, int]:
    """Return the skipped answers of the ten owners of which most were skipped, the greatest first."""
    return {_shown_owner(*owner): count for owner, count in skipped.most_common(_WORST)}


def _shown_owner(host: str, sort: str, number: int) -> str:
    """Return an owner for people: its sort, its number or address, and its host."""
    shown = str(ip_address(number)) if sort == CLIENT and number < 1 << 128 else str(number)
    return f"{sort or 'others'} {shown if sort else ''}".rstrip() + (f" of {host}" if host else "")


def _shown(name: str, host: str, cgroup: int, owner: int) -> str:
    place = f" of {host}" if host else ""
    if not cgroup and not owner:
        return f"other cgroups{place}"
    return f"{name or 'unknown'} ({'cgroup' if cgroup else 'other cgroups below'} {cgroup or owner}{place})"


class Loser(NamedTuple):
    """A cgroup that lost events, and its owner; without a cgroup all cgroups of the owner, without both of the host."""

    cgroup: int = 0
    owner: int = 0


EVERYBODY = Loser()


def losers(turn: Turn, earlier: Turn | None) -> Iterator[Loser]:
    """Yield the cgroups that lost events since the last turn of the same start that was received.

    EVERYBODY stands for all cgroups: the source does not know which of them lost events.
    """
    before = {} if earlier is None else earlier.lost
    for hop, reasons in turn.lost.items():
        if hop == _KERNEL and turn.lost_by_cgroup:
            continue
        known, divided = before.get(hop, {}), _BY_CGROUP if turn.lost_by_cgroup else frozenset()
        if any(lost > known.get(reason, 0) for reason, lost in reasons.items() if reason not in divided):
            yield EVERYBODY
            return
    of_cgroup = {} if earlier is None else {_key(one): one.lost for one in earlier.lost_by_cgroup}
    for one in turn.lost_by_cgroup:
        if one.lost > of_cgroup.get(_key(one), 0):
            yield Loser(one.cgroup, one.owner)


def _key(loss: CgroupLoss) -> Loser:
    """Return what an entry counts for; a cgroup can get another owner."""
    return Loser(loss.cgroup) if loss.cgroup else Loser(owner=loss.owner)


class SkippedTurns:
    """The owners of skipped answers, by the turn of the answer; `by_owner` counts the answers of each."""

    def __init__(self) -> None:
        self.by_owner: Counter[PartyKey] = Counter()
        self._owners: OrderedDict[Mark, set[PartyKey]] = OrderedDict()

    def note(self, mark: Mark, owner: PartyKey) -> None:
        """Note that an answer of an owner was skipped."""
        self.by_owner[owner if owner in self.by_owner or len(self.by_owner) < MOST_COUNTED else _FURTHER] += 1
        owners = self._owners.get(mark)
        if owners is None:
            owners = self._owners[mark] = set()
            if len(self._owners) > MOST_TURNS:
                self._owners.popitem(last=False)
        if len(owners) <= MOST_OWNERS:
            owners.add(owner)

    def concern(self, request: Request) -> bool:
        """Return whether answers that concern a request were skipped in one of its turns.

        The answers of its owner concern it, or all answers if it names no owner.
        """
        return any(self._lacks(mark, request.owner) for mark in request.after)

    def _lacks(self, mark: Mark, owner: tuple[str, int] | None) -> bool:
        owners = self._owners.get(mark)
        if not owners:
            return False
        return owner is None or len(owners) > MOST_OWNERS or (owner[0], CGROUP, owner[1]) in owners


class Published:
    """The number of published events by name, and of turns, of all starts since each began."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, turn: Turn, earlier: Turn | None) -> None:
        """Count what a start published since an earlier turn; None is its begin."""
        self._counts[TURN] += max(turn.turn - earlier.turn, 0) if earlier else turn.turn + 1
        before = _events(earlier) if earlier else {}
        for name, count in _events(turn).items():
            if name in PUBLISHED:
                self._counts[name] += max(count - before.get(name, 0), 0)

    @property
    def most_missed(self) -> dict[str, int]:
        """The greatest number of events that one worker can have missed, by event name or reason."""
        events = sum(self._counts[name] for name in PUBLISHED)
        most = {name: self._counts[name] for name in (*PUBLISHED, TURN)}
        # The cache publishes these: a message leads to one at most, and a connection to one of each stage.
        for name in (DNS_ANSWER_CONFLICT, DNS_TRANSACTION):
            most[name] = self._counts[NET_PACKET_DNS]
        most[NET_CONNECTION] = len(STAGES) * (self._counts[NET_TCP_CONNECT] + self._counts[NET_UDP_CONNECT])
        return {**most, **dict.fromkeys(LOSS_REASONS, (events + 1) * _LOSSES_OF_EVENT)}


def _events(turn: Turn) -> Mapping[str, int]:
    """Return the number of events by name; without it that of batches, which a subscriber counts then."""
    if turn.published is not None:
        return turn.published
    return {name: last + 1 for name, last in turn.last.items()}


class _Reports:
    """The latest reports of the workers of one user, by the name of the worker; `evicted` is the sum of the others."""

    __slots__ = ("evicted", "workers")

    def __init__(self) -> None:
        self.workers: OrderedDict[str, Mapping[str, int]] = OrderedDict()  # the latest report last
        self.evicted: Counter[str] = Counter()

    def evict(self) -> None:
        """Move the eldest report to the sum."""
        _, lost = self.workers.popitem(last=False)
        self.evicted.update(lost)


class WorkerLosses:
    """The losses that workers reported (`lost`), by user, worker and event name: the latest report of each.

    A worker cannot have missed more than was published (`most`, by event name), and a user counts as
    MOST_WORKERS_OF_USER workers at most, however many names it uses. More than that is left out where the losses are
    read, since a report can be ahead of the turn that it counts.

    The table is bounded. The counts of an evicted worker stay in the sum. If such a worker reports again, its earlier
    counts are in the sum twice: beyond the bound the sum is an upper limit.
    """

    def __init__(self) -> None:
        self._users: OrderedDict[Reporter, _Reports] = OrderedDict()  # the user of the latest report last
        self._evicted: Counter[str] = Counter()
        self._count = 0

    def report(self, user: Reporter, worker: str, lost: Mapping[str, int]) -> None:
        """Replace the report of a worker; `lost` counts from its start."""
        reports = self._users.setdefault(user, _Reports())
        self._users.move_to_end(user)
        self._count += worker not in reports.workers
        reports.workers[worker] = lost
        reports.workers.move_to_end(worker)
        if len(reports.workers) > MOST_WORKERS_OF_USER:
            self._evict_from(reports)
        elif self._count > MOST_WORKERS:
            self._evict_from(max(self._users.values(), key=lambda one: len(one.workers)))
        if len(self._users) > MOST_USERS:
            self._evict_user()

    def counted(self, most: Mapping[str, int]) -> tuple[Counter[str], int]:
        """Return the sum over all workers, and the number of reported counts beyond what was published."""
        total = dict.fromkeys(most, 0)
        beyond = 0
        for lost, workers in self._reports():
            for name, count in lost.items():
                limit = most.get(name, 0) * workers
                beyond += count > limit
                total[name] = total.get(name, 0) + min(count, limit)
        return Counter({name: min(count, MOST_EVENTS) for name, count in total.items() if count}), beyond

    def _reports(self) -> Iterator[tuple[Mapping[str, int], int]]:
        """Yield each report, and the number of workers as whose it counts."""
        yield self._evicted, MOST_WORKERS_OF_USER
        for reports in self._users.values():
            yield reports.evicted, MOST_WORKERS_OF_USER
            yield from ((lost, 1) for lost in reports.workers.values())

    def _evict_from(self, reports: _Reports) -> None:
        reports.evict()
        self._count -= 1

    def _evict_user(self) -> None:
        _, reports = self._users.popitem(last=False)
        while reports.workers:
            self._evict_from(reports)
        self._evicted.update(reports.evicted)
