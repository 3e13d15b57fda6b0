"""A subscriber that holds messages of another host to its key: a host speaks for itself alone (docs/use/hosts.md)."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping

import msgspec
import structlog
from msgspec.structs import replace

from dnstrail.bus import RemoteHost, Subscriber
from dnstrail.bus.remote_host import key_of
from dnstrail.errors import BadMessage
from dnstrail.events import NAMES
from dnstrail.log_pause import LogPause
from dnstrail.protocol.batches import TURN, Count, Turn, decode

REFUSED = "remote_refused"  # the counter of messages
REFUSED_MESSAGE = "", b""
MOST_TURN = 64 << 10  # bytes of a turn: counters, and the losses of some cgroups
MOST_CGROUPS = 256  # that lost events: several times as many as a probe names
MOST_START = 128  # characters
#: starts that another host begins within 30 s -> a further one is refused until then: `remote_refused`
STARTS, WITHIN = 8, 30.0
_REMEMBERED = 1024  # starts of one host: no subscriber follows more
#: seconds by which a clock of another host may be ahead of its first turn and the time since then, and 0.1 % of that
#: time -> its turn is refused: `remote_refused`
AHEAD = 2.0
_DRIFT = 0.001  # of the time since the first turn: two clocks drift apart by less
_REPLAYED = 120.0  # seconds: a probe replays no turns of longer ago
#: events that another host may publish in a second, by its own count -> the message is refused: `remote_refused`
_EVENTS = 1 << 20  # several times as many as any probe publishes
_TURNS = 1 << 12  #: turns that another host may end in a second -> the message is refused: `remote_refused`
_SECOND = 1_000_000_000  # ns


class _OwnBatch(msgspec.Struct, frozen=True, array_like=True):
    """A batch in wire form whose events are left as they are."""

    start: str
    turn: Count
    sequence: msgspec.Raw
    events: msgspec.Raw
    before: dict[str, Count] | None = None
    host: str = ""


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE_BATCH = msgspec.msgpack.Decoder(_OwnBatch).decode


def own_message(remote: RemoteHost, topic: str, body: bytes) -> bytes:
    """Return a message of another host as its own: with a start of its key, and the name of its key as the host.

    A host that does not count its events is given a count that never grows: else a gap of its own numbers counts.

    Raises:
        BadMessage: the body is no such message.
    """
    return _ENCODE(_own(remote, _decoded(topic, body)))


def is_before(topic: str, body: bytes, turn: Turn) -> bool:
    """Return whether the counts of a replayed message are such as its start can have had shortly before a turn.

    Raises:
        BadMessage: the body is no such message.
    """
    earlier, later = dict(_numbers(_decoded(topic, body))), dict(_numbers(turn))
    return not _too_fast(later, earlier, -AHEAD) and not _too_fast(earlier, later, _REPLAYED)


class SubscriberLayer:
    """A subscriber over another one: it passes on all but the messages, which a subclass receives."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber

    @property
    def publisher(self) -> RemoteHost | None:
        """The host that published the message that was received last; None for this host."""
        return self._subscriber.publisher

    def fill(self) -> None:
        """Take what has arrived into memory, within a bound."""
        self._subscriber.fill()

    def subscribe(self, topic: str, start: str = "") -> None:
        """Subscribe to a further topic."""
        self._subscriber.subscribe(topic, start)

    def unsubscribe(self, topic: str, start: str = "") -> None:
        """Cancel the subscription to a topic."""
        self._subscriber.unsubscribe(topic, start)

    def reopen(self, start: str) -> None:
        """Connect and subscribe anew to the publisher of a start."""
        self._subscriber.reopen(start)

    def close(self) -> None:
        """Close the subscriber."""
        self._subscriber.close()


class KeyedSubscriber(SubscriberLayer):
    """A subscriber to hosts that do not trust each other. It returns each message of another host as its own.

    A start is one of the key that published it, and its host is the name of the key, whatever the message states. Of
    another host no clock runs ahead of its first turn by more than the time since then and AHEAD, and no count grows
    faster than a probe can count. The counts before its first message are held to the age that a live start states. A
    message beyond that, or a malformed one, is refused and counted as REFUSED in `counters`: REFUSED_MESSAGE takes its
    place, so that a flood of them is bounded by who receives it. Messages of this host are returned as they are.

    Memory is bounded for each host. The clock of a file is free.
    """

    def __init__(self, subscriber: Subscriber, monotonic: Callable[[], float], counters: Counter[str]) -> None:
        super().__init__(subscriber)
        self._monotonic = monotonic
        self._counters = counters
        self._hosts = defaultdict[str, _Host](_Host)  # by key: as many as have sockets
        self._empty = monotonic()  # the last time at which nothing had arrived

    def receive(self) -> tuple[str, bytes] | None:
        """Return the next message; REFUSED_MESSAGE instead of a refused one."""
        message = self._subscriber.receive()
        if message is None:
            self._empty = self._monotonic()
            return None
        remote = self._subscriber.publisher
        return message if remote is None else self._held(remote, *message)

    def reopen(self, start: str) -> None:
        """Connect and subscribe anew to the publisher of a start. Its next turn is the first one of its connection."""
        self._hosts.pop(key_of(start), None)
        super().reopen(start)

    def _held(self, remote: RemoteHost, topic: str, body: bytes) -> tuple[str, bytes]:
        """Return a message as the own one of its host, or REFUSED_MESSAGE."""
        host, now = self._hosts[remote.key], self._monotonic()
        try:
            message = _own(remote, _decoded(topic, body))
        except BadMessage as error:
            fault = str(error)
        else:
            fault = host.fault_of(message, now, self._empty)
            if not fault:
                return topic, _ENCODE(message)
        self._count(remote, host, fault, now)
        return REFUSED_MESSAGE

    def _count(self, remote: RemoteHost, host: _Host, fault: str, now: float) -> None:
        self._counters[REFUSED] += 1
        if host.refused.note(now):
            structlog.get_logger().warning(REFUSED, host=remote.name, reason=fault, refused=host.refused.count)


class _Host:
    """The starts of one host, and the messages of it that were refused."""

    def __init__(self) -> None:
        self.refused = LogPause()
        self._starts: OrderedDict[str, _Start] = OrderedDict()
        self._begun: deque[float] = deque([float("-inf")] * STARTS, STARTS)  # the times of the last new starts

    def fault_of(self, message: _OwnBatch | Turn, now: float, since: float) -> str:
        """Return why a message is refused, or "". A first message was published after `since`."""
        start = self._starts.get(message.start)
        if start is None:
            if len(message.start) > MOST_START:
                return "the id of its start is too long"
            if now - self._begun[0] < WITHIN:
                return "too many starts"
            self._begun.append(now)
            start = self._starts[message.start] = _Start(since)
            if len(self._starts) > _REMEMBERED:
                self._starts.popitem(last=False)
        else:
            self._starts.move_to_end(message.start)
        return start.fault_of(message, now, since)


class _Start:
    """One start of a probe: the numbers of its first message, and the clock of its first live turn, with their times.

    A subscriber that stood still reads a first message late. The time before it, at which nothing had arrived, counts
    instead. A start whose clock is ahead for WITHIN seconds begins anew, as with a new connection: this host was
    suspended, and the other one was not.
    """

    __slots__ = ("_ahead_since", "_clock", "_numbers", "_since")

    def __init__(self, since: float) -> None:
        self._since = since
        self._numbers: dict[str, int] | None = None
        self._clock: tuple[float, int] | None = None
        self._ahead_since: float | None = None

    def fault_of(self, message: _OwnBatch | Turn, now: float, since: float) -> str:
        numbers = dict(_numbers(message))
        if self._numbers is None:
            self._numbers = numbers
        fast = _too_fast(self._numbers, numbers, now - self._since)
        if isinstance(message, Turn) and message.live:
            if message.since:
                fast = fast or _too_fast({}, self._numbers, (message.now - message.since) / _SECOND)
            if not fast and self._is_ahead(message.now, now, since):
                return "its clock is ahead"
        return f"its count of {fast} grows too fast" if fast else ""

    def _is_ahead(self, clock: int, now: float, since: float) -> bool:
        first = self._clock = self._clock or (since, clock)
        ahead = clock > first[1] + (AHEAD + (now - first[0]) * (1 + _DRIFT)) * _SECOND
        if not ahead:
            self._ahead_since = None
        elif self._ahead_since is None:
            self._ahead_since = now
        elif now - self._ahead_since >= WITHIN:
            self._clock, self._ahead_since = (since, clock), None
            return False
        return ahead


def _too_fast(first: Mapping[str, int], numbers: Mapping[str, int], seconds: float) -> str:
    """Return the name of a number that has grown by more than a probe can count, or ""."""
    for name, number in numbers.items():
        rate = _TURNS if name == TURN else _EVENTS
        if number > first.get(name, 0) + (seconds + AHEAD) * rate:
            return name
    return ""


def _numbers(message: _OwnBatch | Turn) -> Iterator[tuple[str, int]]:
    """Yield the numbers of a message that a follower compares with those of the message before."""
    published: Mapping[str, int] = (message.published if isinstance(message, Turn) else message.before) or {}
    yield TURN, message.turn
    for name, count in published.items():
        if name in NAMES:
            yield name, count


def _decoded(topic: str, body: bytes) -> _OwnBatch | Turn:
    if topic == TURN:
        if len(body) > MOST_TURN:
            raise BadMessage(f"bad turn: {len(body)} bytes; {MOST_TURN} at most")
        turn = decode(body, Turn)
        if len(turn.lost_by_cgroup) > MOST_CGROUPS:
            raise BadMessage(f"bad turn: {len(turn.lost_by_cgroup)} cgroups; {MOST_CGROUPS} at most")
        return turn
    try:
        batch: _OwnBatch = _DECODE_BATCH(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise BadMessage(f"bad batch: {error}") from error
    return batch


def _own(remote: RemoteHost, message: _OwnBatch | Turn) -> _OwnBatch | Turn:
    """Return a message that names the host by its key. It is on no machine that this host knows."""
    start = remote.own(message.start)
    if isinstance(message, Turn):
        published = message.published or {}
        return replace(message, start=start, host=remote.name, machine_id="", boot_id="", published=published)
    return replace(message, start=start, host=remote.name, before=message.before or {})
