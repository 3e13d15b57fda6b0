"""Snapshots of a cache: it goes on after a restart, and no disk delays its loop."""

from __future__ import annotations

import resource
import threading
from itertools import chain, product
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from dnstrail.image import Bounds, Image
from dnstrail.image.saved import saved_records
from dnstrail.protocol.batches import MOST_COUNT, TURN, Batch, Turn, encode
from dnstrail.protocol.lookups import JoinRequest
from dnstrail.protocol.members import FORM, MAX_NAME, Progress
from dnstrail_cache.feed.feeder import Feeder
from dnstrail_cache.groups.groups import MAX_GROUPS, MAX_GROUPS_OF_USER
from dnstrail_cache.state import snapshots
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.state.snapshots import AT_ONCE, EVERY, SOON, Snapshots
from dnstrail_cache.worker import run
from live.processes import PATIENCE
from live.workers import FakeClock, Messages, response, seen, short_folder, wait_until

DNS, SECOND = "net_packet_dns", 10**9


class Ticking(FakeClock):
    """A clock that goes on by a millisecond at each look at the monotonic time."""

    def monotonic(self):
        self.advance(0.001)
        return super().monotonic()


@pytest.fixture
def path():
    with short_folder() as folder:
        yield folder / "state"


@pytest.fixture
def clock():
    return FakeClock(wall=5000.0)


def new_state(clock, size=5000):
    return CacheState(Image(Bounds(size=size, grace=0)), clock)


def hear(state, number, *names, start="s", live=True, ttl=60, published=None, ended=False, late=0.0):
    """Apply one turn with an answer for each name, some seconds after the probe ended it."""
    messages, at = Messages(), state.clock.wall()
    events = [seen(response(name, f"{name} {ttl} A 192.0.2.1"), at) for name in names]
    before = None if published is None else {DNS: published}
    last = {DNS: number} if events else {}
    if events:
        messages.waiting.append((DNS, encode(Batch(start, number, number, events, before))))
    after = None if published is None else {DNS: published + len(events)}
    messages.waiting.append((TURN, encode(Turn(start, number, last, live, round(at * SECOND), ended, published=after))))
    state.clock.advance(late)
    apply(state, messages)


def apply(state, messages):
    """Apply all messages that wait."""
    feeder = Feeder(messages, state, lambda _conflict, _batch: None)
    while feeder.drain():
        pass


def saved(path, state):
    Snapshots(path, state).close()


def restarted(path, clock, size=5000):
    state = new_state(clock, size)
    Snapshots(path, state).load()
    return state


def found(state, name):
    return state.image.get(name, now=state.now)


def test_a_restart_finds_what_was_live(path, clock):
    """After a restart every live name is found until its own end, and what has ended is not."""
    state = new_state(clock)
    hear(state, 0, "a.com", "b.com")
    hear(state, 1, "short.com", ttl=10)
    saved(path, state)
    clock.advance(30)
    new = restarted(path, FakeClock(clock.wall(), monotonic=1.0))
    assert [bool(found(new, name)) for name in ("a.com", "b.com", "short.com", "c.com")] == [True, True, False, False]
    new.clock.advance(31)
    assert found(new, "a.com") is None


def test_the_longest_starts_of_all_groups_fit_into_the_file(path, clock):
    """Members that report starts with names of the greatest size, in as many groups as may be, do no harm to it."""
    state = new_state(clock)
    hear(state, 0, "a.com")
    now = clock.monotonic()
    for user in range(MAX_GROUPS // MAX_GROUPS_OF_USER):
        for group, worker in product(range(MAX_GROUPS_OF_USER), range(3)):
            names = (f"{user}/{group}/{worker}/{number}" for number in range(1365))
            progress = tuple(Progress(name + "\U0001f4a9" * (MAX_NAME - len(name)), 0, 1) for name in names)
            member = JoinRequest(group=f"g{group}", worker=f"w{worker}", progress=progress, user=user, form=FORM)
            state.groups.join(member, now)
    saved(path, state)
    new = restarted(path, clock)
    assert found(new, "a.com")
    groups = new.groups.saved(now, clock.wall())
    assert len(groups) == MAX_GROUPS
    assert all(240 < len(group.members["all"]) < 280 for group in groups)


def test_lookups_of_the_time_before_have_no_history(path, clock):
    """The cache knows nothing of the time for which it did not run: `at` before its start says so."""
    state = new_state(clock)
    hear(state, 0, "a.com")
    saved(path, state)
    clock.advance(20)
    new = restarted(path, clock)
    assert new.image.get("a.com", now=new.now, at=new.moment(clock.wall() - 10)).history is False
    clock.advance(1)
    assert new.image.get("a.com", now=new.now, at=new.moment(clock.wall())).history is True


def test_an_event_from_before_a_restart_finds_its_answer(path, clock):
    """A signature that has waited asks at once, before the first turn, by which the shift of the probe is known."""
    state = new_state(clock)
    hear(state, 0, late=0.2)
    stamp = round(clock.wall() * SECOND)
    hear(state, 1, "a.com", late=0.2)
    saved(path, state)
    clock.advance(15.0)
    state = restarted(path, clock)
    assert state.image.get("a.com", at=state.moment(None, event=("s", stamp))) is not None


def test_a_snapshot_leaves_out_what_came_after_its_position(path, clock):
    """Answers that arrive while a snapshot is written are not saved: the probe replays them, and none counts twice."""
    state = new_state(clock)
    hear(state, 0, "a.com", "b.com")
    pieces = snapshots.pieces_of(state)
    first = next(pieces)
    hear(state, 1, "a.com", "new.com")
    assert snapshots.save(path, chain([first], pieces)) == ""
    new = restarted(path, clock)
    assert new.follower.positions()["s"].ended == 0
    assert [bool(found(new, name)) for name in ("a.com", "b.com", "new.com")] == [True, True, False]
    hear(new, 1, "a.com", "new.com")
    counts = [sum(len(one.answers) for one in saved_records(new.image, name, 0)) for name in ("a.com", "new.com")]
    assert counts == [2, 1]


def test_a_restart_knows_how_far_the_signature_workers_were(path, clock):
    """The members of a group have left, and their last turns are known, until they renew their memberships."""
    state = new_state(clock)
    hear(state, 0, "a.example")
    progress = (Progress("s", 0, 7),)
    state.groups.join(JoinRequest(group="g", worker="worker", form=FORM, progress=progress), clock.monotonic())
    saved(path, state)
    request = JoinRequest(group="g", worker="another", form=FORM)
    assert restarted(path, clock).groups.join(request, clock.monotonic()).behind == {"s": 7}


def test_events_that_the_restart_missed_are_counted(path, clock):
    """Events that a probe published between the snapshot and the restart are counted as lost on the bus."""
    state = new_state(clock)
    hear(state, 0, "a.com", published=0)
    saved(path, state)
    new = restarted(path, clock)
    hear(new, 5, "b.com", published=43)
    assert new.follower.lost[DNS] == 42
    assert found(new, "a.com")
    assert found(new, "b.com")


def test_a_restart_without_a_gap_loses_nothing(path, clock):
    """A probe that published nothing meanwhile, and a probe that started meanwhile, lost nothing."""
    state = new_state(clock)
    hear(state, 0, "a.com", published=0)
    saved(path, state)
    new = restarted(path, clock)
    hear(new, 1, "b.com", published=1)
    hear(new, 7, "c.com", published=9, start="another")
    assert new.follower.lost.total() == 0


def test_the_parties_are_in_doubt_after_a_restart(path, clock):
    """Queries that wait are not saved, so that unmatched answers count as doubted, as after every start."""
    state = new_state(clock)
    hear(state, 0, "a.com")
    saved(path, state)
    new = restarted(path, clock)
    assert new.image.admission.doubts.is_doubted((("", "cgroup", 7, 7), True), new.now)


def test_a_snapshot_is_taken_every_minute(path, clock):
    """The loop saves in steps, and the file appears whole."""
    state = new_state(clock)
    taking = Snapshots(path, state)
    hear(state, 0, "a.com", ttl=600)
    taking.step()
    assert taking._writer is None
    clock.advance(EVERY)

    def stepped():
        taking.step()
        return state.counters["state_saved"]

    wait_until(stepped)
    assert found(restarted(path, clock), "a.com")
    taking.step()
    assert taking._writer is None


def test_a_snapshot_is_taken_soon_after_the_start_of_a_probe(path, clock):
    """Ten seconds after the snapshot before, the next one begins if a probe has started: its end could be missed."""
    state = new_state(clock)
    taking = Snapshots(path, state)
    begins = []
    for start in ("s", "s", "another", "another"):
        hear(state, 0, start=start)
        clock.advance(SOON)
        begins.append(taking.begins)
        taking._began, taking._starts = clock.monotonic(), taking._known
    assert begins == [True, False, True, False]


def test_a_snapshot_is_taken_soon_after_a_restart(path, clock):
    """A cache that goes on from a file saves after ten seconds: killed often, it misses no 90 s of turns."""
    state = new_state(clock)
    hear(state, 0, "a.com", ttl=600)
    saved(path, state)
    clock.advance(EVERY - SOON)
    new = new_state(clock)
    taking = Snapshots(path, new)
    taking.load()
    hear(new, 1)
    begins = []
    for passed in (SOON - 1, 1):
        clock.advance(passed)
        begins.append(taking.begins)
    assert begins == [False, True]


def test_a_step_is_short(path):
    """A step ends after two milliseconds, however many roots there are."""
    clock = Ticking(wall=5000.0)
    state = new_state(clock)
    hear(state, 0, *(f"{number}.com" for number in range(300)), ttl=86400)
    taking = Snapshots(path, state)
    clock.advance(EVERY)
    longest = steps = 0
    while not state.counters["state_saved"]:
        before = clock.monotonic_time
        taking.step()
        longest, steps = max(longest, clock.monotonic_time - before), steps + 1
    assert steps > 100
    assert longest < AT_ONCE + 0.01
    assert len(restarted(path, clock).image) == 300


def test_a_snapshot_goes_on_while_nothing_arrives(path):
    """The loop wakes for each step of a snapshot: on a quiet host it is whole long before its probes forget."""
    clock, stop, states, waited = Ticking(wall=5000.0), threading.Event(), [], []
    state = new_state(clock)
    hear(state, 0, *(f"{number}.com" for number in range(300)), ttl=86400)
    saved(path, state)

    class Quiet:
        """A bus on which nothing arrives; it ends the loop once the state is saved."""

        def wait(self, *_ends, timeout):
            waited.append(timeout)
            clock.advance(timeout)
            if states[0].counters["state_saved"]:
                stop.set()
            return False

    server = SimpleNamespace(refused=0, receive=lambda: None)
    run(Quiet(), Messages(), server, clock, Bounds(), stop, state_file=path, observe=states.append)
    assert sum(timeout <= 0.02 for timeout in waited) > 100


@pytest.mark.parametrize("message", ["batch", "turn"])
def test_the_greatest_numbers_of_a_host_leave_the_file_readable(path, clock, message):
    """A host may count as high as a number goes: the answers of others are found after a restart."""
    state, at = new_state(clock), round(clock.wall() * SECOND)
    hear(state, 0, "a.com")
    counts = {DNS: MOST_COUNT}
    messages = Messages()
    messages.waiting.append((TURN, encode(Turn("evil", 0, counts if message == "turn" else {}, True, at))))
    if message == "batch":
        messages.waiting.append((DNS, encode(Batch("evil", MOST_COUNT, MOST_COUNT, [seen(b"")], counts))))
        messages.waiting.append((TURN, encode(Turn("evil", MOST_COUNT, counts, True, at, published=counts))))
    apply(state, messages)
    assert "evil" in state.positions
    saved(path, state)
    again = restarted(path, clock)
    assert (again.counters["state_refused"], found(again, "a.com") is None) == (0, False)


@pytest.mark.parametrize(("step", "most"), [(0.0, 1.0), (1e8, 7 * 86400 + 1.0)])
def test_a_clock_that_was_behind_spoils_no_later_history(path, clock, step, most):
    """A host without a clock starts before NTP sets it: later runs remember all that they saw, after seven days."""
    clock.wall_time = 1.8e9
    state = new_state(clock)
    hear(state, 0, "a.com")
    saved(path, state)
    behind = FakeClock(wall=1.8e9 - step)
    state = restarted(path, behind)
    hear(state, 0, "b.com", start="t")
    behind.wall_time += step
    hear(state, 1, "c.com", start="t")
    saved(path, state)
    later = FakeClock(wall=behind.wall())
    state = restarted(path, later)
    assert state.image.forgotten <= state.now + most * SECOND


def test_a_slow_disk_delays_nobody(path, clock, monkeypatch):
    """If the disk takes no more, the snapshot pauses with bounded memory, and the loop goes on."""
    monkeypatch.setattr(
        snapshots, "save", lambda _path, pieces, _ending="new": next(pieces) and released.wait(PATIENCE) and ""
    )
    released = snapshots.threading.Event()
    state = new_state(clock)
    monkeypatch.setattr(snapshots, "pieces_of", lambda _state: iter([b"x"] * 1000))
    hear(state, 0, "a.com")
    taking = Snapshots(path, state)
    clock.advance(EVERY)
    for _ in range(200):
        taking.step()
    assert taking._writer._pieces.qsize() <= snapshots._WAITING
    assert taking._piece
    released.set()
    wait_until(lambda: taking._writer.ended)


def test_a_failed_snapshot_is_counted_and_leaves_the_old_one(path, clock):
    """A folder that is gone, or a full disk, is logged and counted; the cache goes on."""
    state = new_state(clock)
    hear(state, 0, "a.com")
    with capture_logs() as logs:
        saved(path.parent / "gone" / "state", state)
    assert state.counters["state_failed"] == 1
    assert [line["event"] for line in logs] == ["state_not_saved"]


def test_a_damaged_file_is_one_line_and_an_empty_cache(path, clock):
    """Damage is refused with one line; the cache starts empty, works, and saves anew."""
    path.write_bytes(b"garbage")
    with capture_logs() as logs:
        state = restarted(path, clock)
    assert [(line["event"], line["file"]) for line in logs] == [("state_refused", str(path))]
    assert state.counters["state_refused"] == 1
    assert len(state.image) == 0
    hear(state, 0, "a.com")
    saved(path, state)
    assert found(restarted(path, clock), "a.com")


def test_the_image_of_a_file_is_not_saved(path, clock):
    """The state is that of live probes: the times of a capture file are not those of this host."""
    state = new_state(clock)
    hear(state, 0, "a.com", live=False)
    saved(path, state)
    assert not path.exists()


def test_a_cache_that_heard_no_probe_keeps_the_file(path, clock):
    """A cache that ends before a probe starts leaves the file as it is, and does not live in the past."""
    state = new_state(clock)
    hear(state, 0, "a.com")
    saved(path, state)
    before = path.read_bytes()
    new = restarted(path, clock)
    saved(path, new)
    assert path.read_bytes() == before
    clock.advance(100)
    assert found(new, "a.com") is None


def test_a_full_disk_leaves_the_old_file(path, clock):
    """If the disk takes no further byte, the old file stays whole, the new one is removed, and this is counted."""
    state = new_state(clock)
    hear(state, 0, "a.com")
    saved(path, state)
    before = path.read_bytes()
    hear(state, 1, *(f"{number}.com" for number in range(50)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with capture_logs() as logs:
            saved(path, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(line["event"], line["reason"]) for line in logs] == [("state_not_saved", "File too large")]
    assert (state.counters["state_saved"], state.counters["state_failed"]) == (1, 1)
    assert [file.read_bytes() for file in path.parent.iterdir()] == [before]


@pytest.mark.parametrize(("ended", "vanished"), [(False, 1), (True, 0)])
def test_a_probe_that_ended_while_the_cache_did_not_run_has_vanished(path, clock, ended, vanished):
    """A probe whose end no run of the cache has received is counted ten seconds after the restart, and only once."""
    state = new_state(clock)
    hear(state, 0, "a.com", ended=ended)
    saved(path, state)
    counted = []
    for _ in range(2):
        state = restarted(path, clock)
        hear(state, 0, "b.com", start="another")
        before = state.counters["probes_vanished"]
        clock.advance(10)
        hear(state, 1, "c.com", start="another")
        counted.append((before, state.counters["probes_vanished"]))
        hear(state, 2, start="another", ended=True)
        saved(path, state)
    assert counted == [(0, vanished), (0, 0)]


def test_a_probe_that_is_heard_again_has_not_vanished(path, clock):
    """A probe that went on while the cache was restarted does not count."""
    state = new_state(clock)
    hear(state, 0, "a.com")
    saved(path, state)
    state = restarted(path, clock)
    clock.advance(10)
    hear(state, 1, "b.com")
    assert state.counters["probes_vanished"] == 0


def test_no_lookup_waits_for_a_probe_that_has_vanished(path, clock):
    """Ten seconds after a restart, or after its last turn, the missing turns of a probe are out of reach."""
    state = new_state(clock)
    hear(state, 0, "a.com")
    saved(path, state)
    state = restarted(path, clock)
    assert state.follower.reached(("s", 1)) is None
    hear(state, 0, start="another")
    clock.advance(10)
    hear(state, 0, start="third")
    assert [state.follower.reached((start, 1)) for start in ("s", "another", "third")] == [False, False, None]
    hear(state, 1, "b.com")
    assert (state.follower.reached(("s", 1)), state.follower.reached(("s", 2))) == (True, None)
