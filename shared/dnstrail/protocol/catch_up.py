"""A subscriber that first receives what was published before it subscribed (docs/inside/architecture.md)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from dnstrail.bus import Requester, Subscriber
from dnstrail.bus.remote_host import key_of
from dnstrail.bus.subscriber_end import MOST_RECEIVED, OVERHEAD
from dnstrail.errors import BadMessage
from dnstrail.protocol.batches import TURN, Count, Turn, decode
from dnstrail.protocol.keyed_subscriber import SubscriberLayer, is_before
from dnstrail.protocol.replays import Replay, ReplayingProbes, ReplayRequest
from dnstrail.protocol.turn_follower import Position

#: seconds after its start for which a cache asks about the probes that it hears, and for which it waits for the replies
#: about one start -> it goes on with the live turns
SETTLED = 10.0
#: seconds for which the messages of a host wait for what one of its probes replays, and is handled -> the cache goes on
#: with the live turns
LONGEST = 120.0  # a probe keeps 90 s
PATIENCE = 2.0  # seconds for one reply of a probe while another one may have the turns, too

_LOOK = 0.005  # seconds between two looks for replies while messages of other hosts are received
_THIS_HOST = ""


class _BatchHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The part of a batch that has its place: whoever receives the batch decodes the rest."""

    start: str
    turn: Count
    sequence: Count


_DECODE_HEAD = msgspec.msgpack.Decoder(_BatchHead).decode
Message = tuple[str, bytes]
Place = tuple[str, int, int]  # the start, turn and sequence of a message


@dataclass(slots=True)
class _Gap:
    """The turns of a start that were missed: those after `after`, up to the first live turn, `until`.

    `sources` may have them. The other starts wait for replies until `expiry`, whatever a source replies. The time for
    which the subscriber handles messages does not count until `last`: to handle a minute of turns takes longer than to
    receive them.
    """

    start: str
    after: int
    until: Turn
    sources: list[Requester]
    expiry: float
    last: float
    deadline: float = 0.0


class _Host:
    """The messages of one host: those that arrived wait until its own probes have replayed the turns before them.

    `size` is that of the messages that wait, in bytes. `returned` is when the subscriber received a message, until it
    asks for the next one.
    """

    def __init__(
        self,
        probes: ReplayingProbes,
        positions: Mapping[str, Position],
        until: float,
        counters: Counter[str],
        is_asked_for: Callable[[Turn], bool],
    ) -> None:
        self.size = 0
        self.returned: float | None = None
        self._probes = probes
        self._positions = positions
        self._until = until
        self._counters = counters
        self._is_asked_for = is_asked_for
        self._arrived: deque[tuple[Message, Place | None]] = deque()
        self._first_turns: dict[str, Turn] = {}  # by start: the first turn that arrived to its end
        self._caught_up: dict[str, int] = {}  # by start: the last turn that was replayed
        self._replayed: deque[Message] = deque()
        self._gap: _Gap | None = None

    @property
    def has_messages(self) -> bool:
        """Whether messages wait, also for a replay."""
        return bool(self._arrived or self._replayed)

    def add(self, message: Message, place: Place | None) -> None:
        """Add a message that arrived."""
        self._arrived.append((message, place))
        self.size += len(message[1]) + OVERHEAD

    def note(self, turn: Turn, now: float) -> None:
        """Note a turn that arrived; a start that is heard later than SETTLED has nothing to replay."""
        if now < self._until:
            self._first_turns.setdefault(turn.start, turn)
        if not turn.live:  # the probe of a file loses nothing, and keeps nothing
            self._caught_up.setdefault(turn.start, -1)

    def next(self, now: float) -> Message | None:
        """Return the next message, or None if there is none, or if a gap comes before it."""
        if self._gap is not None and self.returned is not None:
            self._gap.expiry = min(self._gap.expiry + now - self.returned, self._gap.last)
        self.returned = None
        while not self._replayed:
            if self._gap is not None:
                if not self._continue(self._gap, now):
                    return None
            else:
                message = self._next_arrived(now)
                if message is not None or self._gap is None:
                    return message
        return self._replayed.popleft()

    def give_up(self) -> None:
        """Wait for no replay any more, nor for the first turns of starts: too much has arrived meanwhile."""
        self._until = float("-inf")
        self._first_turns.clear()
        if self._gap is not None:
            self._gap.expiry = float("-inf")

    def _next_arrived(self, now: float) -> Message | None:
        while self._arrived:
            message, place = self._arrived[0]
            if place is not None and place[0] not in self._caught_up and not self._decide(place[0], now):
                return None
            self._arrived.popleft()
            self.size -= len(message[1]) + OVERHEAD
            if place is None or place[1] > self._caught_up[place[0]]:
                return message
        return None

    def _decide(self, start: str, now: float) -> bool:
        """Decide on the gap before a start; return False while its messages have to wait."""
        first, position = self._first_turns.get(start), self._positions.get(start)
        if first is not None or now >= self._until:
            self._caught_up[start] = -1
        if first is not None:
            if position is None and not self._is_asked_for(first):
                return True
            after = -1 if position is None else position.ended
            self._gap = _Gap(start, after, first, self._probes.of(start), now + SETTLED, now + LONGEST)
        return start in self._caught_up and self._gap is None

    def _continue(self, gap: _Gap, now: float) -> bool:
        """Ask for the next turns of a gap, or read the reply; return False while it has to wait."""
        if gap.after >= gap.until.turn or not gap.sources or now >= gap.expiry:
            if gap.after < gap.until.turn:
                self._counters["replays_failed"] += 1
            self._gap = None
            return True
        gap.deadline = gap.deadline or now + PATIENCE
        replay = self._probes.ask(gap.sources[0], ReplayRequest(gap.start, gap.after))
        if replay is not None and self._add(gap, replay):
            gap.deadline = 0.0
        elif replay is not None or (now >= gap.deadline and len(gap.sources) > 1):
            gap.sources, gap.deadline = gap.sources[1:], 0.0
        else:
            return False
        return True

    def _add(self, gap: _Gap, replay: Replay) -> bool:
        """Add the messages of a reply; return whether it contains any."""
        if not replay.messages or replay.last <= gap.after:
            return False
        messages = [message for message in replay.messages if self._is_missed(gap, message)]
        if gap.sources[0].remote is not None and not all(is_before(*message, gap.until) for message in messages):
            return False
        self._replayed += messages
        self._counters["replayed"] += len(messages)
        gap.after = self._caught_up[gap.start] = min(replay.last, gap.until.turn)
        return True

    def _is_missed(self, gap: _Gap, message: Message) -> bool:
        """Return whether a replayed message is one of a gap, and was not received before the restart."""
        place = _place_of(_decoded(*message))
        if place is None or place[1] > gap.until.turn:
            return False
        return not _is_known(message, place, self._positions.get(gap.start))


class CatchUp(SubscriberLayer):
    """A subscriber that continues the positions of an earlier run, without a gap and without an event twice.

    A start without a position is received from the first turn that its probe has, if `is_asked_for` returns true for
    the first turn that arrives.

    The messages of a start that arrive wait until its probe has replayed the turns before them. Other hosts do not wait
    for a host with a key of its own, and take turns with it. What a probe replays no more is a gap, which the follower
    of turns counts. The counts that another host replays lead to its first live turn, else the reply is refused.
    `on_turn` receives each turn when it arrives. `counters` counts `replayed` messages, and `replays_failed`: gaps that
    no probe could close. After `settled` seconds messages pass through. Beyond MOST_RECEIVED bytes the host with most
    of them waits no longer.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        sources: Sequence[Requester],
        positions: Mapping[str, Position],
        monotonic: Callable[[], float],
        on_turn: Callable[[Turn], None],
        counters: Counter[str],
        is_asked_for: Callable[[Turn], bool] = lambda _: True,
        settled: float = SETTLED,
    ) -> None:
        super().__init__(subscriber)
        self._monotonic = monotonic
        self._on_turn = on_turn
        self._until = monotonic() + settled
        self._settled = False
        probes = ReplayingProbes(sources)
        self._hosts = {key: _Host(probes, positions, self._until, counters, is_asked_for) for key in probes.by_key}
        self._ready: deque[_Host] = deque()  # the hosts with messages, but those that wait for a replay
        self._waiting: list[_Host] = []
        self._size = 0  # of the messages of all hosts that arrived, in bytes
        self._look = monotonic()  # the time at which the latter are looked at again

    @property
    def settled(self) -> bool:
        """Whether messages pass through: nothing is asked for any more."""
        return self._settled

    @property
    def waits(self) -> bool:
        """Whether messages wait for a replay, once nothing else is received."""
        return bool(self._waiting)

    def receive(self) -> Message | None:
        """Return the next message: of a replay, or as it arrived."""
        if self._settled:
            return self._subscriber.receive()
        self._collect()
        now = self._monotonic()
        if not self._ready or now >= self._look:
            self._ready.extend(self._waiting)
            self._waiting.clear()
            self._look = now + _LOOK
        while self._ready:
            host = self._ready.popleft()
            before = host.size
            message = host.next(now)
            self._size -= before - host.size
            if host.has_messages:
                (self._waiting if message is None else self._ready).append(host)
            if message is not None:
                host.returned = self._monotonic()
                return message
        self._settled = not self._waiting and now >= self._until
        return None

    def _collect(self) -> None:
        """Take the messages that arrived from the socket, where too many would be lost."""
        while self._size < MOST_RECEIVED and (message := self._subscriber.receive()) is not None:
            stated = _decoded(*message)
            key = _THIS_HOST if stated is None else key_of(stated.start)
            host = self._hosts.get(key) or self._hosts[_THIS_HOST]
            if not host.has_messages:
                self._ready.append(host)
            before = host.size
            host.add(message, _place_of(stated))
            self._size += host.size - before
            if isinstance(stated, Turn):
                host.note(stated, self._monotonic())
                self._on_turn(stated)
        if self._size >= MOST_RECEIVED and self._waiting:
            max(self._waiting, key=lambda host: host.size).give_up()


def _decoded(topic: str, body: bytes) -> _BatchHead | Turn | None:
    """Return a turn, or the head of a batch; None if it is damaged."""
    try:
        return decode(body, Turn) if topic == TURN else _DECODE_HEAD(body)
    except (BadMessage, msgspec.DecodeError, ValueError, RecursionError):
        return None


def _place_of(message: _BatchHead | Turn | None) -> Place | None:
    if message is None:
        return None
    return message.start, message.turn, -1 if isinstance(message, Turn) else message.sequence


def _is_known(message: Message, place: Place, position: Position | None) -> bool:
    """Return whether a batch was received before the restart, in the turn that was open then."""
    return position is not None and message[0] != TURN and place[2] < position.next.get(message[0], 0)
