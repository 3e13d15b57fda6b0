"""The state of the cache: what the feeder changes and the answers read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from msgspec.structs import replace

from dnstrail.events import EFFECTS, REFUSED_EVENTS
from dnstrail.image import Image
from dnstrail.image.bounds import SECOND
from dnstrail.metrics.histogram import Histogram
from dnstrail.process.clock import Clock, nanoseconds
from dnstrail.protocol.batches import Turn, is_young
from dnstrail.protocol.catch_up import SETTLED
from dnstrail.protocol.lookups import EventTime, Request, operation_of
from dnstrail.protocol.turn_follower import FollowedStarts, Position, TurnFollower
from dnstrail_cache.groups.groups import Groups
from dnstrail_cache.losses import Published, SkippedTurns, WorkerLosses
from dnstrail_cache.state.cache_clock import CacheClock
from dnstrail_cache.state.dumps import Dumps
from dnstrail_cache.state.health import TurnTimes, silent_probes, status_of

_ANSWERING = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)  # seconds


@dataclass(slots=True)
class CacheState:
    """The contents of the cache at one moment.

    The image contains the events of every turn that `follower` has received to its end, so that an answer after such a
    turn is complete. `losses` holds the reports of other workers, and `published` what they can have missed. `counters`
    counts requests, replies and refusals. `turn_times` holds the arrival times of the turns of each probe. `applied`
    counts events by name. `stream` is the clock of a live stream, on the host with `boot_id`. `groups` holds the
    memberships of signature workers. `answering` contains the times from a request to its reply, by operation. `begun`
    is true for a cache that goes on from a file of state, or catches up with a live probe. `dumps` holds the dumps that
    go on, and `skipped` the turns of skipped answers. `resumed` are the starts that an earlier run received, and whose
    end it did not. `starts` are the starts that are followed. `hosts` holds the name of each host that was heard.
    """

    image: Image
    clock: Clock
    boot_id: str = ""
    stream: CacheClock = field(init=False)
    groups: Groups = field(init=False)
    starts: FollowedStarts = field(init=False)
    follower: TurnFollower = field(default_factory=lambda: TurnFollower(tuple(EFFECTS)))
    losses: WorkerLosses = field(default_factory=WorkerLosses)
    published: Published = field(default_factory=Published)
    counters: Counter[str] = field(default_factory=Counter)
    turn_times: dict[str, TurnTimes] = field(default_factory=dict)
    dumps: Dumps = field(default_factory=Dumps)
    skipped: SkippedTurns = field(default_factory=SkippedTurns)
    begun: bool = False
    resumed: frozenset[str] = frozenset()
    began: float = field(init=False)
    applied: Counter[str] = field(default_factory=Counter)
    answering: dict[str, Histogram] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stream = CacheClock(self.clock, self.boot_id)
        self.began = self.clock.monotonic()
        self.groups = Groups(self.began)
        self.starts = FollowedStarts(self.image.bounds.probes, self._forget, self.counters)

    def heard(self, host: str) -> str:
        """Note a host, and return its name: one text for all answers of the host."""
        if len(self.hosts) > self.image.bounds.probes:
            self.hosts.clear()
        return self.hosts.setdefault(host, host)

    @property
    def several(self) -> bool:
        """True if more than one host was heard."""
        return len(self.hosts) > 1

    @property
    def probes(self) -> list[Turn]:
        """The last turn of every probe start."""
        return self.follower.probes

    def last_turn(self, start: str) -> int | None:
        """Return the number of the last turn of a start that was received to its end, None without any."""
        turn = self.follower.last(start)
        return None if turn is None else turn.turn

    @property
    def live(self) -> bool:
        """True if one of the probes captures live traffic, or did so before a restart."""
        return self.begun or self.follower.live

    def end_turn(self, turn: Turn, now: float) -> Turn | None:
        """Note a turn that arrived to its end at a time (monotonic); return the turn before of its start, if any."""
        was_live, earlier = self.live, self.follower.last(turn.start)
        self.heard(turn.host)
        self.follower.turn(turn, from_start=is_young(turn))
        self.published.count(turn, earlier)
        if turn.live:
            self.stream.note_turn(turn)
            if not was_live:
                self.begin_live()
        heard = self.turn_times.get(turn.start)
        self.turn_times[turn.start] = TurnTimes(now if heard is None else heard.first, now)
        return earlier

    def begin_live(self) -> None:
        """Note that the stream is live from now on: the image knows nothing from before.

        An image whose clock is ahead is discarded. A file, or a host whose clock is unknown yet, has filled it.
        """
        now = self.stream.now()
        if self.image.now > now:
            discarded, self.image = self.image, Image(self.image.bounds, self.image.admission.unmatched)
            self.image.on_response = discarded.on_response
        self.image.advance(now)
        self.image.forget(now)

    @property
    def now(self) -> int:
        """The time of the stream (ns): with a live probe of a clock that never steps, else the greatest stamp."""
        return self.stream.now() if self.live else self.image.now

    def moment(self, at: float | None, at_ns: int | None = None, event: EventTime | None = None) -> int | None:
        """Return a time of a request on the clock of the stream: wall time in s or ns, or the time of an event."""
        wall = at_ns if at is None else nanoseconds(at)
        if wall is None and event is not None:
            return min(self.stream.event_time(*event), self.now) if self.live else event[1]
        return self.stream.moment(wall) if wall is not None and self.live else wall

    def note_answered(self, request: Request, seconds: float) -> None:
        """Note how long a request waited for its reply."""
        operation = operation_of(request)
        if operation not in self.answering:
            self.answering[operation] = Histogram(_ANSWERING)
        self.answering[operation].observe(seconds)

    def wall(self, stamp: int) -> float:
        """Return a time of the stream in seconds of wall time, to be shown."""
        return (stamp + self.difference) / SECOND

    @property
    def difference(self) -> int:
        """Wall time minus the clock of the stream (ns)."""
        return self.stream.difference() if self.live else 0

    @property
    def status(self) -> str:
        """The status of the probes, as `health.status_of` names it."""
        return status_of(self.probes, self.turn_times, self.clock.monotonic(), self.lag)

    @property
    def silent_probes(self) -> list[str]:
        """The starts of probes that stopped without their last turn."""
        return [probe.start for probe in silent_probes(self.probes, self.turn_times, self.clock.monotonic())]

    @property
    def vanished(self) -> set[str]:
        """The starts that stopped without their last turn, also those that stopped before this run heard them."""
        return {*self.silent_probes, *self._unheard}

    @property
    def gone(self) -> frozenset[str]:
        """The starts that stopped without their last turn so long ago that no lookup waits for them."""
        before = self.clock.monotonic() - SETTLED
        late = {start for start in self.silent_probes if self.turn_times[start].last <= before}
        return self._unheard.union(late)

    @property
    def positions(self) -> dict[str, Position]:
        """How far each start is received, for the next run of the cache."""
        over = self.vanished.union(probe.start for probe in self.probes if probe.ended)
        heard = {probe.start for probe in self.probes}
        return {
            start: replace(position, over=start in over or start not in {*heard, *self.resumed})
            for start, position in self.follower.positions().items()
        }

    @property
    def lost_on_bus(self) -> Counter[str]:
        """The events that this cache did not receive, or did not take from probes that it does not follow."""
        return self.follower.lost + Counter({REFUSED_EVENTS: self.counters[REFUSED_EVENTS]})

    def _forget(self, start: str) -> None:
        """Forget a start that gave way to another one."""
        self.follower.forget(start)
        self.stream.forget(start)
        self.turn_times.pop(start, None)
        self.resumed -= {start}

    @property
    def _unheard(self) -> frozenset[str]:
        if not self.resumed or self.follower.awaits_starts or self.clock.monotonic() - self.began < SETTLED:
            return frozenset()
        return frozenset(start for start in self.resumed if self.follower.last(start) is None)

    @property
    def lag(self) -> float:
        """The seconds by which the cache is behind the live probe that it hears, and is most behind."""
        running = {probe.start for probe in self.probes if probe.live and not probe.ended}.difference(
            self.silent_probes
        )
        return max(map(self.stream.delay_of, running), default=0) / SECOND

    @property
    def image_counters(self) -> dict[str, int]:
        """The size of the image, and its counters."""
        return {"roots": len(self.image), "relations": self.image.store.places.relations, **self.image.counters}

    @property
    def admission_counters(self) -> dict[str, int]:
        """The counters of admission."""
        return dict(self.image.admission.counters)
