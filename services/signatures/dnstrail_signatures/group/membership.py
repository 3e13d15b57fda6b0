"""The membership of this worker in its group: renewed each second at the cache, without waiting for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from hashlib import blake2b

import msgspec
import structlog

from dnstrail.bus import Bus
from dnstrail.client import LookupClient
from dnstrail.errors import DnstrailError, LookupRefused, Unavailable
from dnstrail.protocol import MOST_PROBES
from dnstrail.protocol.batches import Turn
from dnstrail.protocol.losses import worker_name
from dnstrail.protocol.members import EXPIRY, FORM, MAX_NAME, REMEMBERED, RENEWAL, Members, Progress, Work
from dnstrail.signature import Signature
from dnstrail_signatures.group.handled import HandledStart, Takeover
from dnstrail_signatures.group.ownership import Owners, Share

_AGAIN = 0.1  # seconds until a request is sent again that could not be sent, or that a start waits for
_SOONEST = 0.9 * RENEWAL  # seconds from a renewal until a step renews again: the turn of a probe causes one each second
_DUE = 1.2 * RENEWAL  # the same until a step is due, whatever arrives
_LATE = 1.5 * RENEWAL  # seconds after a renewal after which the next step is late
_TIMEOUT = 0.5  # seconds that the end of a worker waits for the cache
GROUP, ALONE = "default", "none"
_DIGEST = 4  # bytes
_ACTORS = "clients by host"  # how actors are told apart
#: characters of the name of a group (`--group`) -> a longer one is refused
LONGEST = MAX_NAME - len(" ") - 2 * _DIGEST  # its name gets a digest of its signatures
_LOOK = 0.005  # seconds between two looks for the reply of the cache


class Membership:
    """The group of this worker as the cache reports it: `owners` follows from it.

    A start waits until a reply covers it and all members have received it, at most for EXPIRY. While the cache is away
    nothing changes. A worker that has never reached a cache goes on alone after EXPIRY.
    """

    def __init__(self, client: LookupClient, group: str, worker: str, now: float) -> None:
        self.owners = Owners(worker)
        self._client = client
        self._group = group
        self._worker = worker
        self._starts: dict[str, HandledStart] = {}
        self._unsettled: set[str] = set()
        self._joined = False
        self._founded = True  # nobody was there before
        self._cache = ""  # the run of the cache that replied last
        self._run: tuple[str, dict[str, int]] = "", {}  # of the last settled reply, and what was handled then
        self._epoch = self._known = 0  # of the last settled reply; the one whose changes were taken in
        self._behind: dict[str, int] = {}  # what others left behind, of starts that were not received
        self._inherits = now  # the time until which starts may be received of which others left something behind
        self._asked: frozenset[str] | None = None  # the starts that the last request reports, until its reply comes
        self._next = self._tried = self._heard = self._waits_since = now
        self._refused = False
        self._work: Callable[[], Work] = Work

    @property
    def waits(self) -> bool:
        """Whether the owners of something that was received are not known yet."""
        return not self._joined or bool(self._unsettled)

    def waits_for(self, start: str) -> bool:
        """Return whether the owners of a start are not known yet."""
        return start not in self._starts or start in self._unsettled

    @property
    def due(self) -> float:
        """The time (monotonic) by which the next step has to renew the membership."""
        return self._next + _DUE - _SOONEST

    def receive(self, start: str, turn: int, now: float) -> None:
        """Note a message of a start; the first one of a start asks the cache for the members."""
        known = self._starts.get(start)
        if known is not None:
            known.turn = max(known.turn, turn)
            return
        if not self.waits:
            self._waits_since = now
        self._starts[start] = HandledStart(start, now, turn, self._behind.pop(start, None))
        self._unsettled.add(start)
        self._next = now

    def handle(self, turn: Turn) -> None:
        """Note a turn whose events were all handled."""
        if turn.start in self._starts:
            self._starts[turn.start].handle(turn)

    def forget(self, start: str) -> None:
        """Forget a start that is followed no more."""
        self._starts.pop(start, None)
        self._unsettled.discard(start)

    def shares(self, start: str, turn: int) -> list[Share]:
        """Return the shares of this worker in a turn: while owners change there may be several of them."""
        return self._starts[start].shares(turn) if start in self._starts else []

    def since(self, start: str, turn: int, actor: str) -> int | None:
        """Return the wall time (ns) since when this worker owns an actor without a break; None if it is unknown."""
        return self._starts[start].since(turn, actor) if start in self._starts else None

    def step(self, now: float, work: Callable[[], Work]) -> list[Takeover]:
        """Read the reply of the cache, and renew the membership when it is time; return what the worker has to handle.

        The caller has handled all that the step before has returned.
        """
        self._work = work
        self.confirm()
        takeovers = self._read(now)
        if self.waits and now - max(self._waits_since, self._heard) >= EXPIRY:  # the cache is away
            self._joined = True
            takeovers += self._settle([*self._unsettled], inherits=now < self._inherits)
        if now >= self._next:
            sent = self._send(now)
            self._next = now + (_SOONEST if sent and not self._unsettled else _AGAIN)
        return takeovers

    def confirm(self) -> None:
        """Note that all was handled that the last step has returned."""
        for start in self._starts.values():
            if start.settled:
                start.owed = None
        if self._starts and not self.waits:
            self._known = self._epoch

    def renew(self, now: float) -> None:
        """Renew the membership if the next step is late, as while an event is handled: no owner changes meanwhile."""
        if now >= self._tried + _LATE:
            self._send(now)

    def leave(self) -> None:
        """End the membership at once, so that others need not wait for its expiry."""
        self._client.timeout = _TIMEOUT
        for start in map(self._starts.__getitem__, self._unsettled):
            if start.owed is None and start.begun and not self._founded:
                start.owed = -1  # nobody may have handled the turns before
        with suppress(DnstrailError):
            self._client.request("join", **self._fields(), leave=True)
        self._client.close()

    def _fields(self) -> dict[str, object]:
        waiting = (Progress(start, None, last) for start, last in self._behind.items() if start not in self._starts)
        request = {
            "group": self._group,
            "worker": self._worker,
            "epoch": self._known,
            "cache": self._cache,
            "form": FORM,
            "progress": [*waiting, *(one.progress() for one in self._starts.values())][-MOST_PROBES:],
            "work": self._work(),
        }
        fields: dict[str, object] = msgspec.to_builtins(request)
        return fields

    def _send(self, now: float) -> bool:
        """Send a renewal, and return whether it was sent."""
        self._tried = now
        sent = False
        with suppress(Unavailable):  # this process must not believe the folder of the socket
            sent = self._client.send("join", **self._fields())
        self._asked = frozenset(self._starts) if sent else None
        return sent

    def _read(self, now: float) -> list[Takeover]:
        """Take the reply to the last request."""
        if self._asked is None:
            return []
        try:
            reply = self._client.reply()
            if reply is None:
                return []
            members = msgspec.convert(reply.get("data"), Members)
        except (LookupRefused, msgspec.ValidationError) as error:  # no room, or something else than members
            members, reason = None, str(error)
        else:
            reason = "the cache is of an earlier version"
        asked, self._asked, self._heard = self._asked, None, now
        if members is None or members.behind is None:
            return self._refuse(reason, asked, now)
        return self._learn(members, members.behind, asked, now)

    def _learn(self, reply: Members, behind: Mapping[str, int], asked: frozenset[str], now: float) -> list[Takeover]:
        members: dict[str, Mapping[str, int | None]] = {one.worker: one.ahead for one in reply.members}
        if not reply.settled:  # whoever lives may not have renewed its membership yet
            unheard = dict.fromkeys(asked.difference(self.owners.starts))
            members = {name: {**ahead, **unheard} for name, ahead in self.owners.members.items()} | members
        if not self._cache:
            self._founded = not behind and members.keys() <= {self._worker}
        if reply.cache != self._cache:
            self._epoch = self._known = 0
        self._refused, self._cache = False, reply.cache
        self._remember(behind, now)
        unknown = None
        if reply.settled:
            if not (self._epoch or self._founded):  # starts that were received while the cache was away
                self._behind = {name: -1 for name, one in self._starts.items() if one.begun} | self._behind
            self._epoch = reply.epoch
            unknown = self._unknown(reply.cache, members)
        return self._change(members, asked, now, settled=reply.settled, unknown=unknown)

    def _refuse(self, reason: str, asked: frozenset[str], now: float) -> list[Takeover]:
        """Go on alone: the cache reports no end of a member to this worker."""
        if not self._refused:
            structlog.get_logger().error("join_refused", error=reason, members=len(self.owners.members) - 1)
        self._refused, self._cache, self._epoch = True, "", 0
        return self._change({}, asked, now, settled=True, unknown=self._unknown("", {}))

    def _unknown(self, cache: str, members: Collection[str]) -> Mapping[str, int] | None:
        """Note a run of the cache; return what was handled in the one before if members are gone that it knew alone."""
        run, handled = self._run
        self._run = cache, {name: one.last for name, one in self._starts.items()}
        return handled if run != cache and not self.owners.members.keys() <= {self._worker, *members} else None

    def _remember(self, behind: Mapping[str, int], now: float) -> None:
        """Remember what was left behind, for starts that are received later too."""
        if behind or (now < self._inherits and not self._starts):
            self._inherits = now + REMEMBERED
        elif now >= self._inherits:
            self._behind.clear()
        for start, last in behind.items():
            self._behind[start] = min(last, self._behind.get(start, last))
        for start in [*self._behind][:-MOST_PROBES]:
            del self._behind[start]

    def _change(
        self,
        members: Mapping[str, Mapping[str, int | None]],
        asked: frozenset[str],
        now: float,
        *,
        settled: bool,
        unknown: Mapping[str, int] | None,
    ) -> list[Takeover]:
        """Go on with other members; return what has to be handled of what others left behind.

        `unknown` states what this worker had handled when it last knew of members of which nobody knows how far they
        have come.
        """
        own = {name: one.first for name, one in self._starts.items() if one.first}
        owners = Owners(self._worker, {**members, self._worker: own}, asked)
        if not self._joined or owners.members.keys() != self.owners.members.keys():
            structlog.get_logger().info("members", epoch=self._epoch, others=len(owners.members) - 1)
        self._joined, self.owners = True, owners
        found = []
        for name, start in self._starts.items():
            left = self._behind.pop(name, None) if settled else None
            if name not in self._unsettled:
                known = left is not None or unknown is None
                after, counted = (left, left) if known else (-1, unknown.get(name, -1) if unknown else -1)
                found.append(start.change(owners, after, counted))
            elif left is not None:
                start.owe(left)
        late = self._tried - EXPIRY  # who has not received a start since then may be dead
        ready = [
            name
            for name in self._unsettled
            if name in asked and (owners.stated(name) or self._starts[name].seen <= late)
        ]
        return [*filter(None, found), *self._settle(ready, inherits=now < self._inherits)]

    def _settle(self, ready: Iterable[str], *, inherits: bool) -> list[Takeover]:
        """Begin to handle some starts. `inherits`: members have left lately, which may have handled nothing of them."""
        self._unsettled.difference_update(ready)
        found = []
        for start in map(self._starts.__getitem__, ready):
            if start.owed is None and not self._founded and (inherits or not self.owners.stated(start.name)):
                start.owed = -1
            found.append(start.settle(self.owners, counted=inherits))
        return found


Rejoin = Callable[[Iterable[type[Signature]]], Membership]  # `join` for other signatures


def join(
    bus: Bus,
    cache: str,
    group: str,
    stop: threading.Event,
    beat: Callable[[], None],
    classes: Iterable[type[Signature]],
) -> Membership:
    """Return the membership of a worker, once the cache has replied or the worker has to go on alone."""
    client = LookupClient(cache, bus=bus, beat=beat)
    membership = Membership(client, group_name(group, classes), worker_name("signatures"), time.monotonic())
    while membership.waits and not stop.is_set():
        beat()
        membership.step(time.monotonic(), Work)
        bus.wait(timeout=_LOOK)
    return membership


def group_name(group: str, classes: Iterable[type[Signature]]) -> str:
    """Return the name of a group with its signatures: workers share events only if they run the same signatures.

    Workers of an earlier version told actors apart in another way. They are a group of their own.
    """
    described = sorted(f"{cls.metadata.id} {cls.metadata.version} {cls.metadata.event_name}" for cls in classes)
    return f"{group} {blake2b(chr(0).join([_ACTORS, *described]).encode(), digest_size=_DIGEST).hexdigest()}"
