"""The worker stores each fact that a cache publishes once, over restarts of both, and counts what it misses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import astuple

from builders.facts import BEGIN, CURL, FLOW, SECOND, TO_WEB, fact_of, progress_of, stage_of, stored, stored_stages
from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import facts_address, lookups_address
from dnstrail.captured import LAST_TIME, Captured
from dnstrail.events import DNS_TRANSACTION, FACTS_UNWRITTEN, NET_CONNECTION
from dnstrail.history import segment as segments
from dnstrail.history.database import open_reader
from dnstrail.history.open_stages import states_all
from dnstrail.history.segment import Stretch
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail.protocol.facts import FactFeed, packed_fact
from dnstrail.protocol.losses import LossReporter
from dnstrail.protocol.replay_window import KEPT, ReplayWindow
from dnstrail.protocol.replays import replay_address
from dnstrail_history import worker as module
from dnstrail_history.metrics import history_metrics, observe
from dnstrail_history.store import store as store_module
from dnstrail_history.store.store import FactStore
from dnstrail_history.worker import TOPICS, HistoryWorker
from live.workers import FakeClock, open_bus, short_folder, wait_until


def fact(number: int, *, whole: bool = False) -> Captured:
    """Return a fact as it travels, its id whole or as it refers to its batch."""
    name = f"n{number}.example"
    relations = [[1, "192.0.2.1", 60]]
    identity = f"s/{number}/0" if whole else (number, 0)
    values = [identity, None, None, None, None, 0, None, name, 1, 0, 0, 1, None, relations, None, True, True]
    return packed_fact(BEGIN + number, FLOW, CURL, values)


def stage(number: int, name: str, *, whole: bool = False) -> Captured:
    """Return a stage of a connection as it travels, its id whole or as it refers to its batch."""
    identity, *values = astuple(stage_of(number, name).values)
    return packed_fact(BEGIN + number, TO_WEB, CURL, [identity if whole else ("net_tcp_connect", 0, number), *values])


class Cache:
    """The publishing side of one run of a cache, with a window of its last turns."""

    def __init__(self, bus: ZmqBus, folder: Path, start: str, clock: FakeClock) -> None:
        address = facts_address(lookups_address(folder))
        self._clock = clock
        self.publisher = bus.publisher(address, lossless=False)
        self.server = bus.server(replay_address(address))
        self._batches = BatchPublisher(self.publisher, start, live=True, hop="cache")
        self._batches.window = self.window = ReplayWindow(start)
        self.now = BEGIN
        self.difference = 0

    def turn(self, *facts: Captured, stages: Iterable[Captured] = ()) -> None:
        """Publish transactions, stages of connections, and the end of their turn."""
        for topic, of_topic in ((DNS_TRANSACTION, facts), (NET_CONNECTION, stages)):
            for one in of_topic:
                self._batches.add(topic, one, "web1", "s")
        self.now += SECOND
        self._batches.close_turn(self.now, Counter(), difference=self.difference, closed=self._clock.monotonic())
        self._batches.flush()

    def close(self) -> None:
        """Unbind."""
        self.publisher.close()
        self.server.close()


class Ends:
    """A folder with the sockets of a cache and with a store, and the clock of both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "history"
        self.clock = FakeClock(wall=BEGIN / SECOND)

    @contextmanager
    def cache(self, start: str = "cache") -> Iterator[Cache]:
        """Run a cache for the time of the block."""
        with open_bus() as bus:
            yield Cache(bus, self.folder, start, self.clock)

    @contextmanager
    def worker(self, cache: Cache, *, killed: bool = False) -> Iterator[HistoryWorker]:
        """Run a worker that hears a cache; `killed`: it writes nothing more at its end."""
        lookups = lookups_address(self.folder)
        wait_until(lambda: not cache.publisher.subscribers(TURN), "the end of the subscription before")
        with open_bus() as bus:
            feed = FactFeed(bus, lookups, TOPICS)
            replays = bus.requester(replay_address(facts_address(lookups)))
            worker = HistoryWorker(feed, replays, FactStore(self.store, self.clock), self.clock)
            self.await_(worker, cache, lambda: cache.publisher.subscribers(TURN), "the subscription")
            yield worker
            worker.store.close() if killed else worker.close()

    def await_(self, worker: HistoryWorker, cache: Cache, condition: Callable[[], object], what: str) -> None:
        """Let worker and cache work until a condition holds."""

        def step() -> object:
            self.clock.monotonic_time += 0.01
            worker.step()
            cache.window.serve(cache.server)
            return condition()

        wait_until(step, what)

    def await_stored(self, worker: HistoryWorker, cache: Cache, count: int) -> None:
        """Wait until a worker has stored some facts, and the end of their turn."""

        def is_stored() -> bool:
            progress = worker.store.progress
            ended = [position.ended for position in progress.positions.values()]
            return worker.store.counters["stored"] == count and ended == [cache.window._open - 1]

        self.clock.monotonic_time += module._IDLE
        self.await_(worker, cache, is_stored, f"{count} facts")


@pytest.fixture
def ends() -> Iterator[Ends]:
    with short_folder() as folder:
        yield Ends(folder)


def names(ends: Ends) -> list[str]:
    """Return the names of the facts that are stored."""
    return [one.values.name for one in stored(ends.store)]


def named(*numbers: int) -> list[str]:
    return [f"n{number}.example" for number in numbers]


def test_facts_are_stored_in_wall_time(ends):
    """Facts are stored as they were published, shifted by the difference that their start stated."""
    with ends.cache() as cache:
        cache.difference = 7 * SECOND
        with ends.worker(cache) as worker:
            cache.turn(fact(0), fact(1))
            cache.turn(fact(2))
            ends.await_stored(worker, cache, 3)
            assert worker.losses == {}
    found = stored(ends.store)
    assert [one.values.name for one in found] == named(0, 1, 2)
    assert [one.ended - BEGIN for one in found] == [7 * SECOND, 7 * SECOND + 1, 7 * SECOND + 2]
    assert {(one.host, one.process, one.flow) for one in found} == {("web1", CURL, FLOW)}


def test_each_stage_of_a_connection_is_stored_once(ends):
    """Stages are stored beside transactions, in wall time; one that is published again is known, also by a whole id."""
    with ends.cache() as cache:
        cache.difference = 7 * SECOND
        with ends.worker(cache) as worker:
            cache.turn(fact(0), stages=[stage(0, "opened"), stage(0, "result")])
            ends.await_stored(worker, cache, 3)
        cache.close()
        with ends.cache("again") as again, ends.worker(again) as worker:
            bad = stage(0, "again")
            again.turn(
                fact(0, whole=True), stages=[stage(0, "result", whole=True), stage(0, "end"), bad, stage(1, "opened")]
            )
            ends.await_stored(worker, again, 2)
            counters = worker.counters["bad_facts"], worker.store.counters["repeated"]
    found = [(one.id.place, one.stage, one.time - BEGIN) for one in stored_stages(ends.store)]
    assert found == [(0, "opened", 7 * SECOND), (0, "result", 7 * SECOND), (0, "end", 0), (1, "opened", 1)]
    assert (names(ends), counters) == (named(0), (1, 2))


def test_facts_are_written_within_a_second(ends):
    """A fact is on disk within a second of its arrival, by the clock of the worker."""
    with ends.cache() as cache, ends.worker(cache) as worker:
        cache.turn(fact(0))
        ends.await_(worker, cache, lambda: worker.store.waits, "the fact")
        ends.clock.monotonic_time += 0.9
        worker.step()
        assert names(ends) == named(0)


def test_an_idle_worker_hardly_writes(ends):
    """Without facts the progress is written a few times in each minute."""
    with ends.cache() as cache, ends.worker(cache) as worker:
        cache.turn(fact(0))
        ends.await_stored(worker, cache, 1)
        written = []
        for _ in range(60):
            cache.turn()
            ends.clock.monotonic_time += 1.0
            ends.await_(worker, cache, lambda: worker._stretch.until == cache.now, "the turn")
            written.append(worker.store.progress)
        assert 2 <= len({one.stretch.until for one in written}) <= 5


@pytest.mark.parametrize("killed", [False, True])
def test_a_restarted_worker_asks_for_what_it_missed(ends, killed):
    """A worker that restarts receives the turns after its position from the cache, and stores nothing twice."""
    with ends.cache() as cache:
        with ends.worker(cache, killed=killed) as worker:
            cache.turn(fact(0))
            ends.await_stored(worker, cache, 1)
            cache.turn(fact(1))
            ends.await_(worker, cache, lambda: worker.counters["received"] == 2, "the second fact")
        cache.turn(fact(2), fact(3))
        before = len(names(ends))
        with ends.worker(cache) as worker:
            cache.turn(fact(4))
            ends.await_stored(worker, cache, 5 - before)
            assert worker.losses == {}
            assert worker.store.progress.stretch.until == cache.now
    assert names(ends) == named(0, 1, 2, 3, 4)


def test_facts_that_a_cache_publishes_again_are_stored_once(ends):
    """A cache that restarts, and catches up, publishes facts of its run before again: they are known by their ids."""
    with ends.cache() as cache:
        with ends.worker(cache) as worker:
            cache.turn(fact(0), fact(1))
            ends.await_stored(worker, cache, 2)
        cache.close()
        with ends.cache("again") as again, ends.worker(again) as worker:
            again.turn(fact(1), fact(2))
            ends.await_stored(worker, again, 1)
            assert worker.store.counters["repeated"] == 1
    assert names(ends) == named(0, 1, 2)


def test_a_cache_that_restarts_is_heard_from_its_first_turn(ends):
    """Facts that a new run published before the worker had connected again are asked for."""
    with ends.cache() as cache, ends.worker(cache) as worker:
        cache.turn(fact(0))
        ends.await_stored(worker, cache, 1)
        ends.clock.monotonic_time += 3600
        cache.close()
        with ends.cache("again") as again:
            again.turn(fact(1))
            ends.await_(worker, again, lambda: again.publisher.subscribers(TURN), "the connection")
            again.turn(fact(2))

            def are_stored() -> bool:
                again.turn()  # the worker may connect anew after the silence, and miss one
                return worker.store.counters["stored"] == 2 + 1

            ends.await_(worker, again, are_stored, "all facts")
            ends.await_stored(worker, again, 2 + 1)
            assert worker.losses == {}
    assert names(ends) == named(0, 1, 2)


@pytest.mark.parametrize("turns", [0, 1])
def test_a_history_knows_whether_it_began_with_the_cache(ends, turns):
    """Earlier connections are unknown if the first turn that it receives is a later one."""
    with ends.cache() as cache:
        for _ in range(turns):
            cache.turn(fact(9))
        cache.window = cache._batches.window = ReplayWindow("cache")  # the earlier turns are not replayed
        with ends.worker(cache) as worker:
            cache.turn(fact(1))
            cache.turn(fact(2))
            ends.await_(worker, cache, lambda: worker.store.counters["stored"], "the facts")
            assert worker.store.knows_begin is (turns == 0)
    with closing(open_reader(ends.store / "0000000001.open", segments.SCHEMA, final=False)) as database:
        assert states_all(database) is (turns == 0)


def test_a_loss_is_counted_and_ends_the_stretch(ends):
    """Facts that the cache replays no more are counted, and the time of which all is stored begins anew."""
    with ends.cache() as cache:
        with ends.worker(cache) as worker:
            cache.turn(fact(0))
            ends.await_stored(worker, cache, 1)
            begin, first = worker.store.progress.stretch, cache.now
        cache.turn(fact(1))
        ends.clock.monotonic_time += KEPT + 1
        with ends.worker(cache) as worker:
            cache.turn(fact(2))
            ends.await_stored(worker, cache, 1)
            assert worker.losses[DNS_TRANSACTION] == 1
            since, until = worker.store.progress.stretch
    assert names(ends) == named(0, 2)
    assert begin == Stretch(first, first)
    assert first < since <= until == cache.now


def test_an_empty_turn_that_is_missed_ends_no_stretch(ends):
    """A worker that connects anew after a silence may miss a turn: if it has no fact, the stretch goes on."""
    with ends.cache() as cache, ends.worker(cache) as worker:
        cache.turn(fact(0))
        ends.await_stored(worker, cache, 1)
        begin, subscriber = cache.now, worker._feed.subscriber
        subscriber.unsubscribe(TURN)
        ends.await_(worker, cache, lambda: not cache.publisher.subscribers(TURN), "the end of the subscription")
        cache.turn()
        subscriber.subscribe(TURN)
        ends.await_(worker, cache, lambda: cache.publisher.subscribers(TURN), "the subscription")
        cache.turn(fact(1))
        ends.await_stored(worker, cache, 2)
        assert worker.losses == {TURN: 1}
        assert worker.store.progress.stretch == Stretch(begin, cache.now)


def test_a_clock_that_is_set_back_begins_another_stretch(ends):
    """Wall time that is set back an hour neither stops the worker nor leads to a stretch that ends before it begins."""
    with ends.cache() as cache, ends.worker(cache) as worker:
        cache.turn(fact(0))
        ends.await_stored(worker, cache, 1)
        cache.difference = -3600 * SECOND
        cache.turn(fact(1))
        cache.turn(fact(2))
        ends.await_stored(worker, cache, 3)
        assert worker.store.progress.stretch.since < BEGIN
    assert names(ends) == named(0, 1, 2)
    assert stored(ends.store)[2].ended == BEGIN + 2 - 3600 * SECOND


def test_a_turn_beyond_all_times_ends_no_worker(ends):
    """A wall time that SQLite cannot hold counts as the last time; the facts of its turn are refused."""
    with ends.cache() as cache, ends.worker(cache) as worker:
        cache.turn(fact(0))
        ends.await_stored(worker, cache, 1)
        for count, cache.difference in enumerate((1 << 63, -(1 << 63)), 1):
            cache.turn()
            cache.turn(fact(1))
            ends.await_(worker, cache, lambda count=count: worker.counters["bad_facts"] == count, "the refused fact")
        cache.difference = 0
        cache.turn()
        cache.turn(fact(2))
        ends.await_stored(worker, cache, 2)
    assert names(ends) == named(0, 2)


def test_the_latest_facts_with_the_longest_lives_are_finished(ends, monkeypatch):
    """The sums and lives of the latest answers with the greatest TTLs are numbers that SQLite holds."""
    for one in (store_module, segments):
        monkeypatch.setattr(one, "MOST_TRANSACTIONS", 1)
    with closing(FactStore(ends.store, ends.clock)) as store:
        for number in range(2):
            store.add(fact_of(number, ended=LAST_TIME, relations=(("a.example", 1, "192.0.2.1", (1 << 31) - 1),)))
        assert store.commit(progress_of(1))
        wait_until(lambda: store.step() or store.counters["finished"], "the full segment")


def test_a_fact_that_no_cache_sends_is_counted(ends):
    """Facts in another form are counted and leave the others of their batch; a damaged message is counted."""
    with ends.cache() as cache, ends.worker(cache) as worker:
        cache.turn(fact(0), Captured(BEGIN, args={"": [7]}), fact(1))
        ends.await_stored(worker, cache, 2)
        cache.publisher.publish(DNS_TRANSACTION, b"\xc1")
        ends.await_(worker, cache, lambda: worker.counters["bad_facts"] == 2, "the damaged message")
    assert names(ends) == named(0, 1)


def test_a_fact_whose_wall_time_is_unknown_is_counted(ends):
    """Facts of a start are refused until one of its turns states its wall time."""
    with ends.cache() as cache, ends.worker(cache) as worker:
        cache.turn(fact(0))
        ends.await_stored(worker, cache, 1)
        worker._differences.clear()
        worker._on_message(DNS_TRANSACTION, encode(Batch("other", 0, 0, [fact(1), fact(2)], probe="s")))
        assert worker.counters["bad_facts"] == 2
        cache.turn(fact(3))
        cache.turn()
        ends.await_(worker, cache, lambda: worker._stretch.until == cache.now, "the turn")
        assert worker._stretch.since > BEGIN + SECOND
    assert 1 not in [one.id.batch for one in stored(ends.store)]


def test_the_wall_times_of_the_latest_starts_are_kept(ends):
    """A start that is heard again and again keeps its wall time, however many others there were."""
    with ends.cache() as cache, ends.worker(cache) as worker:
        for number in range(3 * module.STARTS):
            worker._note_difference(Turn(f"killed{number}", 0, {}, True, BEGIN, False))
            worker._note_difference(Turn("cache", number, {}, True, BEGIN, False, difference=7))
        assert len(worker._differences) == module.STARTS
        assert worker._differences["cache"] == 7


def test_facts_that_no_disk_takes_are_reported(ends, monkeypatch):
    """Facts that are lost since too many wait are among the losses, and end the stretch."""
    monkeypatch.setattr(store_module, "MOST_WAITING", 5)
    reported = []
    with ends.cache() as cache, ends.worker(cache) as worker:
        worker._losses = LossReporter(lambda losses: reported.append(dict(losses)) or True)
        cache.turn(*map(fact, range(5)))
        ends.await_stored(worker, cache, 2)
        begin = worker.store.progress.stretch
        cache.turn(fact(9))
        ends.await_stored(worker, cache, 3)
        assert worker.store.progress.stretch.since == begin.since
    assert reported == [{FACTS_UNWRITTEN: 3}]
    assert names(ends) == named(0, 1, 9)


def test_health_and_metrics(ends, monkeypatch):
    """The worker is unhealthy while nothing can be written; metrics count facts and files."""
    with ends.cache() as cache, ends.worker(cache) as worker:
        found = []
        observe(lambda metrics, fault: found.append(fault), worker)
        assert [fault() for fault in found] == [""]
        worker.store.fault = "disk is full"
        worker.store.counters["lives_left_out"] = 3
        assert [fault() for fault in found] == ["disk is full"]
        cache.turn(fact(0))
        ends.await_stored(worker, cache, 1)
        samples = {
            (sample.name, *sample.labels.values()): sample.value
            for metric in history_metrics(worker)
            for sample in metric.samples
        }
        assert samples["dnstrail_history_facts_total", "stored"] == 1
        assert samples["dnstrail_history_files_total", "damaged"] == 0
        assert samples["dnstrail_history_lives_left_out_total",] == 3


def test_the_end_of_a_stretch_is_stored_before_another_begins(ends):
    """On an idle host its end is not on disk yet when the cache is started anew: the time until then is known."""
    with ends.cache("first") as cache, ends.worker(cache) as worker:
        cache.turn(fact(1))
        ends.await_stored(worker, cache, 1)
        for _ in range(5):
            cache.turn()
        until = cache.now
        ends.await_(worker, cache, lambda: worker._stretch.until == until, "the turns")
        cache.close()
        with ends.cache("second") as again:
            again.now = until + 60 * SECOND
            ends.await_(worker, again, lambda: again.turn() or worker._start == "second", "the second cache")
            assert worker.store.progress.stretch.until >= until


def test_a_cache_without_a_live_probe_begins_no_stretch(ends):
    """Its turns have no time: the time before the first probe is not known."""
    with ends.cache() as cache, ends.worker(cache) as worker:
        cache.now = -SECOND
        cache.turn()
        ends.await_(worker, cache, lambda: worker._start, "the turn")
        cache.now = BEGIN
        cache.turn(fact(1))
        ends.await_stored(worker, cache, 1)
        assert worker.store.progress.stretch == Stretch(cache.now, cache.now)
