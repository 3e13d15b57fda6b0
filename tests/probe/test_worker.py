from __future__ import annotations

import threading
from collections import Counter

import pytest
from structlog.testing import capture_logs

import dnstrail_probe.worker
from dnstrail.bus.ipc import events_address
from dnstrail.captured import Captured, Process
from dnstrail.events import NET_PACKET_DNS, SCHED_PROCESS_EXIT
from dnstrail.process.clock import StreamClock
from dnstrail.protocol.batch_publisher import MOST_ON_WAY
from dnstrail.protocol.batches import TURN, UNKNOWN, Batch, CgroupLoss, HostIdentity, Turn, decode
from dnstrail.protocol.listener import CONFIRMS, Listener
from dnstrail.protocol.replays import Replay, ReplayRequest, decode_replay, encode_replay, replay_address
from dnstrail.protocol.turn_follower import TurnFollower
from dnstrail_probe.registry import open_source
from dnstrail_probe.worker import _AGAIN, _MOST_HELD, HEARTBEAT, LINGER, NAME_WAIT, run
from live.workers import FakeClock, open_bus, running, short_folder, wait_until

TOPICS = (NET_PACKET_DNS, SCHED_PROCESS_EXIT, TURN)


class Listed:
    """A source that returns chunks of events, [] for an empty read, and then ends or stays idle."""

    def __init__(self, *chunks, live=False, ends=True):
        self.name, self.live, self.counters = "a list", live, Counter()
        self.capabilities, self.losses, self.damage = (), {"ring_full": "kernel", "tcp_evicted": "probe"}, ""
        self.lost_by_cgroup = ()
        self._chunks, self._ends = list(chunks), ends
        self.looks = 0
        self.nothing = threading.Event()

    def read(self, timeout):
        self.looks += 1
        if self._chunks:
            chunk = self._chunks.pop(0)
            self.counters["packets"] += len(chunk)
            return chunk
        if self._ends:
            return None
        self.nothing.wait(timeout)
        return []

    def close(self):
        pass


class Received:
    """The messages that a subscriber has received so far. It confirms the last turn, as workers do."""

    def __init__(self, subscriber):
        self._subscriber = subscriber
        self._listener = Listener(subscriber)
        self.messages = []

    def take(self):
        while (message := self._subscriber.receive()) is not None:
            topic, body = message
            self.messages.append((topic, decode(body, Turn if topic == TURN else Batch)))
            if topic == TURN:
                self._listener.turn(self.messages[-1][1])
        return self

    @property
    def turns(self):
        return [message for _, message in self.messages if isinstance(message, Turn)]

    @property
    def batches(self):
        return [message for _, message in self.messages if isinstance(message, Batch)]

    @property
    def events(self):
        return [event for batch in self.batches for event in batch.events]

    @property
    def ended(self):
        return any(turn.ended for turn in self.take().turns)


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def received(folder):
    with open_bus() as bus:
        yield Received(bus.subscriber([events_address(folder)], TOPICS))


def published(folder, source, clock=None, expected=1, identity=UNKNOWN):
    """Run the worker of the probe over a source, on the address of a folder."""

    def target(bus, stop):
        publisher = bus.publisher(events_address(folder), lossless=not source.live)
        run(source, publisher, StreamClock(clock or FakeClock()), stop, expected, identity)

    return running(target)


def is_logged(logs, event):
    """Return whether the log contains an event."""
    return any(entry["event"] == event for entry in logs)


def events(first, count=1, topic=NET_PACKET_DNS):
    return [(topic, Captured(number, b"%d" % number)) for number in range(first, first + count)]


def test_all_events_arrive_in_order(folder, received):
    """Every event of a source arrives once and in its order, in turns without a gap."""
    chunks = [events(0, 3), events(3, 500), [], events(503), events(504, 2)]
    with published(folder, Listed(*chunks)):
        wait_until(lambda: received.ended)
    assert [event.timestamp for event in received.events] == list(range(506))
    assert [turn.turn for turn in received.turns] == list(range(len(received.turns)))
    assert [batch.sequence for batch in received.batches] == list(range(len(received.batches)))
    assert len({message.start for _, message in received.messages}) == 1


def test_batches_belong_to_their_turn(folder, received):
    """The first turn is empty, so that the start is known before its events; every later batch precedes its turn."""
    chunk = [*events(0, 2), *events(2, 1, SCHED_PROCESS_EXIT), *events(3)]
    with published(folder, Listed(chunk, events(4))):
        wait_until(lambda: received.ended)
    shape = [
        (topic, message.turn, message.last if isinstance(message, Turn) else [e.timestamp for e in message.events])
        for topic, message in received.messages
    ]
    assert shape == [
        (TURN, 0, {}),
        (NET_PACKET_DNS, 1, [0, 1, 3]),
        (SCHED_PROCESS_EXIT, 1, [2]),
        (TURN, 1, {NET_PACKET_DNS: 0, SCHED_PROCESS_EXIT: 0}),
        (NET_PACKET_DNS, 2, [4]),
        (TURN, 2, {NET_PACKET_DNS: 1, SCHED_PROCESS_EXIT: 0}),
        (TURN, 3, {NET_PACKET_DNS: 1, SCHED_PROCESS_EXIT: 0}),
    ]


def test_a_subscriber_detects_that_it_missed_nothing(folder, received):
    """A subscriber has reached every turn of a run, and counts no loss."""
    with published(folder, Listed(events(0, 3), events(3, 3))):
        wait_until(lambda: received.ended)
    turns = TurnFollower((NET_PACKET_DNS, SCHED_PROCESS_EXIT))
    for topic, message in received.messages:
        if isinstance(message, Turn):
            turns.turn(message)
        else:
            turns.batch(topic, message)
    assert all(turns.reached((turn.start, turn.turn)) for turn in received.turns)
    assert not turns.lost


def test_the_last_turn_states_that_the_source_has_ended(folder, received):
    """Only the last turn has `ended`; it contains the counters of the source."""
    with published(folder, Listed(events(0, 2), events(2))):
        wait_until(lambda: received.ended)
    assert [turn.ended for turn in received.turns] == [False] * (len(received.turns) - 1) + [True]
    assert received.messages[-1][1] is received.turns[-1]
    assert received.turns[-1].counters == {"packets": 3}


def test_batches_and_turns_count_the_events_before_them(folder, received):
    """A batch counts the events published before it, and a turn those published up to its end, by name."""
    with published(folder, Listed([*events(0, 2), *events(2, 3, SCHED_PROCESS_EXIT)], events(9))):
        wait_until(lambda: received.ended)
    first = {NET_PACKET_DNS: 2, SCHED_PROCESS_EXIT: 3}
    assert [batch.before for batch in received.batches] == [{}, {NET_PACKET_DNS: 2}, first]
    assert [turn.published for turn in received.turns] == [{}, first, *[{**first, NET_PACKET_DNS: 3}] * 2]


@pytest.mark.parametrize(
    ("size", "count", "batches"),
    [(1, 250, [250]), (1, 251, [250, 1]), (16_384, 9, [6, 3])],
    ids=["as many as fit", "one more", "in bytes"],
)
def test_batches_are_bounded(folder, received, size, count, batches):
    """A batch has at most 250 events and 128 KiB; the rest of a turn follows in further batches."""
    chunk = [(NET_PACKET_DNS, Captured(number, bytes(size))) for number in range(count)]
    with published(folder, Listed(chunk)):
        wait_until(lambda: received.ended)
    assert [len(batch.events) for batch in received.batches] == batches
    assert [(batch.turn, batch.sequence) for batch in received.batches] == [(1, n) for n in range(len(batches))]
    assert [event.timestamp for event in received.events] == list(range(count))


PATH = "/opt/" + "a" * 895


@pytest.mark.parametrize(
    "process",
    [
        lambda _: Process(7, "dig", PATH, container_id="c" * 64, container_image="d" * 900, start_time=5),
        lambda number: Process(7, "dig", PATH, thread_id=7 + number % 50),
        lambda number: Process(number, "dig", PATH),
    ],
    ids=["one process", "its threads", "as many processes"],
)
def test_a_burst_of_small_messages_makes_no_large_batch(folder, process):
    """The 4,681 messages of a full TCP segment, by a program with a long path, arrive in batches of 128 KiB at most."""
    sent = [Captured(number, bytes(12), None, process(number)) for number in range(4681)]
    sizes, received = [], []
    with open_bus() as bus:
        subscriber = bus.subscriber([events_address(folder)], [NET_PACKET_DNS, TURN])
        with published(folder, Listed([(NET_PACKET_DNS, event) for event in sent])):

            def arrived():
                while (message := subscriber.receive()) is not None:
                    if message[0] == NET_PACKET_DNS:
                        sizes.append(len(message[1]))
                        received.extend(decode(message[1], Batch).events)
                return len(received) == len(sent)

            wait_until(arrived)
    assert received == sent
    assert max(sizes) <= 128 << 10


@pytest.mark.parametrize(
    "event", [Captured(1, bytes(600_000)), Captured(1, args={"big": 1 << 70})], ids=["too large", "not encodable"]
)
def test_an_event_that_fits_in_no_batch_is_counted_as_lost(folder, received, event):
    """The probe refuses such an event and publishes the others; its turns carry the loss."""
    chunk = [*events(0, 1), (NET_PACKET_DNS, event), *events(2, 1)]
    with published(folder, Listed(chunk)):
        wait_until(lambda: received.ended)
    assert [event.timestamp for event in received.events] == [0, 2]
    assert received.turns[-1].lost == {"probe": {"event_refused": 1}}


def test_turns_carry_the_losses_of_the_source_by_hop(folder, received):
    """A turn contains what its source counts as lost, by hop and reason; other counters and zeros are no losses."""
    source = Listed(events(0, 2))
    source.counters.update(ring_full=3, tcp_evicted=0, other_port=5)
    with published(folder, source):
        wait_until(lambda: received.ended)
    assert [turn.lost for turn in received.turns] == [{"kernel": {"ring_full": 3}}] * len(received.turns)


def test_turns_carry_the_losses_of_the_source_by_cgroup(folder, received):
    """A turn contains the losses by cgroup as its source states them."""
    source = Listed(events(0, 2))
    source.lost_by_cgroup = (CgroupLoss(1 << 63, 5, "web"), CgroupLoss(0, 2))
    with published(folder, source):
        wait_until(lambda: received.ended)
    assert [turn.lost_by_cgroup for turn in received.turns] == [source.lost_by_cgroup] * len(received.turns)


def test_batches_and_turns_carry_the_host(folder, received):
    """Batches name the watched host, and turns also its machine id."""
    with published(folder, Listed(events(0, 2)), identity=HostIdentity("web1", "0123")):
        wait_until(lambda: received.ended)
    assert {batch.host for batch in received.batches} == {"web1"}
    assert {(turn.host, turn.machine_id) for turn in received.turns} == {("web1", "0123")}


class Refusing:
    """A lossless publisher that refuses every message at once, for as long as a test wants."""

    overflowed = False

    def __init__(self):
        self.refusals = 0
        self.disconnected = self.refused = 0
        self.open = threading.Event()

    def publish(self, _topic, _body):
        self.refusals += not self.open.is_set()
        return self.open.is_set()

    def subscribers(self, _topic):
        return 1

    def linger(self, seconds):
        pass


class Rests(threading.Event):
    """A stop signal that counts the waits for it."""

    def __init__(self, publisher):
        super().__init__()
        self.publisher = publisher
        self.rests = 0

    def wait(self, timeout=None):
        self.rests += 1
        if self.rests == 20:
            self.publisher.open.set()
        return super().wait(0)


def test_a_publisher_that_refuses_at_once_is_not_asked_in_a_loop():
    """After each refusal the probe rests before it offers the message again."""
    publisher = Refusing()
    stop = Rests(publisher)
    run(Listed(events(0, 2)), publisher, StreamClock(FakeClock()), stop, 1)
    assert stop.rests >= 20
    assert publisher.refusals <= stop.rests + 1


class Unconfirmed:
    """A publisher with one subscriber, which confirms the last turn when a test says so."""

    def __init__(self, *, overflowed=False):
        self.overflowed, self.confirms, self.published, self.lingers = overflowed, False, [], None
        self.disconnected = self.refused = 0

    def publish(self, topic, body):
        self.published.append((topic, body))
        return True

    def subscribers(self, topic):
        return int(self.confirms or topic in (TURN, CONFIRMS))

    def linger(self, seconds):
        self.lingers = seconds

    @property
    def turns(self):
        return [decode(body, Turn) for topic, body in self.published if topic == TURN]

    @property
    def ends(self):
        return sum(turn.ended for turn in self.turns)


@pytest.mark.parametrize(
    ("live", "at_once", "seconds"),
    [(True, 1, 5.0), (True, 20, 1.0), (True, 30, 1.0), (True, 256, 0), (False, 1, 0)],
    ids=["few", "20 in ten milliseconds", "more", "many at once", "a file"],
)
def test_the_events_of_a_live_source_gather(clock, live, at_once, seconds):
    """A live source has a turn each ten milliseconds at most, and for few events each fifty; a file is not slowed."""
    publisher = Unconfirmed()
    publisher.confirms = True
    began = clock.monotonic()
    run(Listed(*([events(0, at_once)] * 100), live=live), publisher, StreamClock(clock), threading.Event(), 0)
    assert len(publisher.turns) == 102
    assert clock.monotonic() - began == pytest.approx(seconds, abs=0.1)


def test_the_first_event_after_a_pause_does_not_gather(clock):
    """It ends its turn at once; what comes after it gathers."""
    publisher, times = Unconfirmed(), list[float]()
    publisher.confirms = True
    publish = publisher.publish

    def noting(topic, body):
        if topic == NET_PACKET_DNS:
            times.append(clock.monotonic())
        return publish(topic, body)

    publisher.publish = noting
    source = Listed(events(0), [], [], events(60), events(70), live=True)
    began = clock.monotonic()
    run(source, publisher, StreamClock(clock), threading.Event(), 0)
    assert [time - began for time in times] == pytest.approx([0, 0.01, 0.06])


@pytest.mark.parametrize("overflowed", [True, False])
def test_a_live_probe_that_ends_lingers_for_a_bounded_time(clock, overflowed):
    """A live probe waits two seconds for a subscriber, and repeats its last turn only if one had no room."""
    publisher = Unconfirmed(overflowed=overflowed)
    began = clock.monotonic()
    run(Listed(events(0, 2), live=True), publisher, StreamClock(clock), threading.Event(), 0)
    assert clock.monotonic() - began == pytest.approx(LINGER, abs=0.1)
    assert publisher.ends == pytest.approx(1 + overflowed * LINGER / _AGAIN, abs=overflowed * 2)
    assert publisher.lingers == 0


def test_a_probe_whose_subscribers_have_everything_ends_at_once(clock):
    """A probe does not wait once its last turn is confirmed, and has handed everything over."""
    publisher = Unconfirmed()
    publisher.confirms = True
    began = clock.monotonic()
    with capture_logs() as logs:
        run(Listed(live=True), publisher, StreamClock(clock), threading.Event(), 0)
    assert (clock.monotonic(), publisher.ends) == (began, 1)
    assert [entry["event"] for entry in logs] == ["ready", "source_ended"]


@pytest.mark.parametrize(
    ("turns", "overflowed", "most"),
    [(3, False, 3), (MOST_ON_WAY, False, MOST_ON_WAY // 2), (MOST_ON_WAY, True, MOST_ON_WAY)],
    ids=["few", "the last messages", "after a missed message"],
)
def test_a_probe_states_how_many_events_it_could_not_hand_over(monkeypatch, clock, turns, overflowed, most):
    """A probe whose last turn nobody confirms logs the greatest number of events that a subscriber may lack."""
    monkeypatch.setattr(dnstrail_probe.worker, "_LONGEST_GATHER", 0)  # so that each event has a turn of its own
    publisher = Unconfirmed(overflowed=overflowed)
    with capture_logs() as logs:
        run(Listed(*([events(0)] * turns), live=True), publisher, StreamClock(clock), threading.Event(), 0)
    [entry] = [entry for entry in logs if entry["event"] == "not_handed_over"]
    assert entry["log_level"] == "warning"
    assert entry["start"] == publisher.turns[-1].start
    assert most - 1 <= entry["events_at_most"] <= most


def test_the_probe_of_a_file_waits_until_it_is_stopped(clock):
    """The probe of a file waits for a slow subscriber for as long as it needs, and after a signal two seconds."""
    publisher, stop = Unconfirmed(), threading.Event()

    def waited(seconds):
        clock.monotonic_time += seconds
        if clock.monotonic_time > 200:
            stop.set()

    clock.sleep = waited
    run(Listed(events(0, 2)), publisher, StreamClock(clock), stop, 0)
    assert clock.monotonic() == pytest.approx(200 + LINGER, abs=0.1)
    assert publisher.lingers == 0


def test_the_clock_of_a_file_is_its_greatest_time(folder, received):
    """The turns of a file contain its greatest time stamp so far, and are not live."""
    with published(folder, Listed(events(7), events(3), events(9))):
        wait_until(lambda: received.ended)
    assert [turn.now for turn in received.turns] == [0, 7, 7, 9, 9]
    assert not any(turn.live for turn in received.turns)


def test_a_file_waits_for_its_subscribers(folder, received):
    """A file is not read before all expected subscribers are there; then each receives all of it."""
    source = Listed(events(0, 10))
    with published(folder, source, expected=2), open_bus() as bus:
        wait_until((folder / "events.sock").exists)
        one = bus.subscriber([events_address(folder)], [NET_PACKET_DNS])  # no TURN: it does not count
        assert (source.looks, received.take().messages) == (0, [])
        second = Received(bus.subscriber([events_address(folder)], TOPICS))
        wait_until(lambda: received.ended and second.ended)
        one.close()
    assert [event.timestamp for event in received.events] == list(range(10))
    assert [message for _, message in second.messages] == [message for _, message in received.messages]


def test_a_live_source_waits_for_a_bounded_time(folder, clock):
    """A live source is read when the time for its subscribers is over, and not before."""
    source = Listed(events(0, 10), live=True)
    with published(folder, source, clock, expected=1):
        wait_until((folder / "events.sock").exists)
        assert source.looks == 0
        wait_until(lambda: setattr(clock, "monotonic_time", clock.monotonic_time + 1) or source.looks)
    assert source.looks >= 1


def test_who_waits_for_a_turn_ends_it(folder, received, clock):
    """A request ends the open turn of an idle source at once, however many ask, and at most every 10 ms."""
    source = Listed(live=True, ends=False)

    def target(bus, stop):
        publisher = bus.publisher(events_address(folder), lossless=False)
        replays = bus.server(replay_address(events_address(folder)))
        run(source, publisher, StreamClock(clock), stop, 1, UNKNOWN, replays=replays)

    def looked(times):
        begin = source.looks
        wait_until(lambda: source.looks > begin + times, "further looks")

    with running(target), open_bus() as bus:
        wait_until(lambda: received.take().turns, "the first turn")
        [first] = received.turns
        asking = [bus.requester(replay_address(events_address(folder))) for _ in range(40)]

        def ask(ends):
            for requester in asking:
                request = ReplayRequest(first.start, ends - 1, ends)
                assert decode_replay(requester.request(encode_replay(request), 20.0)) == Replay([], 0, first.start)
            looked(5)
            return len(received.take().turns)

        assert ask(first.turn + 1) == 1  # the clock stands still
        clock.monotonic_time += 0.010
        wait_until(lambda: len(received.take().turns) == 2, "the turn that was asked for")
        looked(5)
        assert ask(first.turn + 1) == 2  # it has ended
        clock.monotonic_time += 0.010
        looked(5)
        assert len(received.take().turns) == 2
        for requester in asking:
            requester.close()


def test_an_idle_source_has_a_heartbeat(folder, received, clock):
    """While nothing is captured, a turn ends with every heartbeat and not more often."""
    source = Listed(live=True, ends=False)

    def beat():
        clock.monotonic_time += HEARTBEAT + 0.001

    def looked(times):
        begin = source.looks
        wait_until(lambda: source.looks > begin + times, "further looks")

    with published(folder, source, clock):
        wait_until(lambda: received.take().turns, "the first turn")
        looked(1)
        joined = len(received.turns)
        for number in range(1, 4):
            beat()
            wait_until(lambda number=number: len(received.take().turns) == joined + number, "a heartbeat")
            looked(5)
            assert len(received.take().turns) == joined + number
        turns = list(received.turns)
        assert turns[-1].now - turns[-2].now == pytest.approx((HEARTBEAT + 0.001) * 1e9)
    assert all(turn.live and not turn.ended for turn in turns)
    assert received.take().batches == []


class Stepping(Listed):
    """A source during whose first read a second passes, and the wall clock steps."""

    def __init__(self, clock, step, **kind):
        super().__init__(events(0, 2), **kind)
        self._clock, self._step = clock, step

    def read(self, timeout):
        if not self.looks:
            self._clock.monotonic_time += 1
            self._clock.wall_time += 1 + self._step
        return super().read(timeout)


@pytest.mark.parametrize("step", [3600, -3600])
def test_a_step_of_the_wall_clock_changes_the_difference_alone(clock, step):
    """The clock of a live source goes on over a step of the wall clock. Turns contain the difference."""
    publisher = Unconfirmed()
    publisher.confirms = True
    began = round(clock.wall() * 1e9)
    run(Stepping(clock, step, live=True), publisher, StreamClock(clock), threading.Event(), 0)
    assert [(turn.now - began, turn.difference) for turn in publisher.turns] == [
        (0, 0),
        (10**9, step * 10**9),
        (10**9, step * 10**9),
    ]


def test_the_clock_of_a_file_has_no_difference(clock):
    """The clock of a file is its greatest time stamp, and is shown as it is."""
    publisher = Unconfirmed()
    publisher.confirms = True
    run(Stepping(clock, 3600), publisher, StreamClock(clock), threading.Event(), 0)
    assert [(turn.now, turn.difference) for turn in publisher.turns] == [(0, 0), (1, 0), (1, 0)]


def test_events_are_published_without_waiting_for_the_heartbeat(folder, received, clock):
    """A turn ends as soon as something was captured, even if the clock stands still."""
    with published(folder, Listed(events(0), ends=False), clock):
        wait_until(lambda: received.take().events)
        assert [turn.turn for turn in received.turns] in ([0], [0, 1])


def test_the_stop_signal_ends_it(folder, received):
    """The stop signal ends a source that still has events, with a last turn that has `ended`."""
    with published(folder, Listed(events(0), ends=False)) as stop:
        wait_until(lambda: received.take().events)
        stop.set()
        wait_until(lambda: received.ended)


def test_the_stop_signal_ends_the_wait_for_subscribers(folder):
    """The stop signal ends a file that waits for subscribers."""
    source = Listed(events(0), ends=False)
    with published(folder, source, expected=1) as stop:
        wait_until((folder / "events.sock").exists)
        stop.set()
    assert source.looks == 0


def test_a_slow_subscriber_of_a_file_loses_nothing(folder):
    """A file waits for a subscriber that does not read; in the end every event arrives."""
    chunks = [[(NET_PACKET_DNS, Captured(number, bytes(2000)))] for number in range(3_000)]
    source = Listed(*chunks)
    with open_bus() as bus, published(folder, source):
        subscriber = bus.subscriber([events_address(folder)], TOPICS)
        held = threading.Event()

        def stands_still():
            looks = source.looks
            return looks > 100 and not held.wait(0.3) and source.looks == looks

        wait_until(stands_still, "the source to be held up")
        assert source.looks < len(chunks)
        received = Received(subscriber)
        wait_until(lambda: received.ended)
    assert [event.timestamp for event in received.events] == list(range(len(chunks)))
    assert [turn.turn for turn in received.turns] == list(range(len(chunks) + 2))


@pytest.mark.parametrize("damage", ["file_cut_short", "file_damaged"])
def test_a_damaged_capture_warns(folder, received, damage):
    """A damaged capture gives one warning, which names it; the events before the damage are published."""
    source = Listed(events(0, 2))
    source.damage = damage
    with capture_logs() as logs, published(folder, source):
        wait_until(lambda: received.ended and is_logged(logs, "source_ended"))
    warnings = [entry for entry in logs if entry["log_level"] == "warning"]
    assert warnings == [
        {"event": damage, "source": "a list", "published": "everything before the damage", "log_level": "warning"}
    ]
    assert len(received.events) == 2


def test_a_whole_capture_does_not_warn(folder, received):
    """A run logs that it is ready, with its subscribers, and that it has ended, with its counters; nothing warns."""
    with capture_logs() as logs, published(folder, Listed(events(0, 2))):
        wait_until(lambda: received.ended and is_logged(logs, "source_ended"))
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("ready", "info"), ("source_ended", "info")]
    assert (logs[0]["subscribers"], logs[1]["packets"]) == (1, 2)


def test_each_run_has_a_start_of_its_own(folder, received):
    """Two runs of one source have different start ids."""
    for count in (1, 2):
        with published(folder, Listed(events(0))):
            wait_until(lambda count=count: sum(turn.ended for turn in received.take().turns) == count)
    assert len({turn.start for turn in received.turns}) == 2


def test_a_real_capture_file_is_published(folder, received):
    """The bundled capture arrives exactly as the source reads it."""
    source, again = open_source("demo"), open_source("demo")
    with published(folder, source):
        wait_until(lambda: received.ended)
    expected = []
    while (chunk := again.read(1)) is not None:
        expected += [event for _, event in chunk]
    source.close()
    again.close()
    assert received.events == expected != []


class Naming(Listed):
    """A live source whose containers have a name from a time on."""

    def __init__(self, clock, named_at, *chunks):
        super().__init__(*chunks, live=True)
        self._clock, self._named_at, self.begun = clock, named_at, -1

    @property
    def names(self):
        return self

    def known(self, container):
        if self._clock.monotonic() < self._named_at:
            return "", "", ()
        return f"name of {container}", "nginx", (("app", container),)

    def is_awaited(self, container):
        return container == "c1" and self._clock.monotonic() < self._named_at


def of_container(container, count=1):
    return [(NET_PACKET_DNS, Captured(1, process=Process(7, "sh", container_id=container)))] * count


@pytest.mark.parametrize(
    ("delay", "container", "count", "named", "seconds"),
    [
        (0.1, "c1", 1, True, 0.1),
        (0.0, "c1", 1, True, 0.0),
        (9.0, "c1", 1, False, NAME_WAIT),
        (9.0, "c1", _MOST_HELD, False, 0.0),
        (0.1, "other", 1, False, 0.0),
        (0.1, "", 1, False, 0.0),
    ],
    ids=["in time", "known", "too late", "too many events", "not awaited", "the host"],
)
def test_the_events_of_a_new_container_wait_for_its_name(clock, delay, container, count, named, seconds):
    """A turn waits 200 ms at most for the name of a container that it contains and that is due, and no longer."""
    publisher = Unconfirmed()
    publisher.confirms = True
    source = Naming(clock, clock.monotonic() + delay, of_container(container, count), *[[]] * 200, events(9))
    published_at = []
    publish = publisher.publish
    publisher.publish = lambda topic, body: published_at.append((topic, clock.monotonic())) or publish(topic, body)
    began = clock.monotonic()
    run(source, publisher, StreamClock(clock), threading.Event(), 0)
    batches = [decode(body, Batch) for topic, body in publisher.published if topic == NET_PACKET_DNS]
    names = {event.process.container_name for batch in batches for event in batch.events if event.process}
    assert names == {f"name of {container}" if named else ""}
    first = next(time for topic, time in published_at if topic == NET_PACKET_DNS)
    assert first - began == pytest.approx(seconds, abs=0.02)
