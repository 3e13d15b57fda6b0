from __future__ import annotations

from itertools import pairwise

import msgpack
import msgspec
import pytest
from msgspec.structs import replace

from builders.talk import OWN, answer, back, query
from dnstrail.captured import LAST_TIME, Captured, Flow, Process
from dnstrail.image import Bounds, Image
from dnstrail.protocol.batches import TURN, YOUNG, Batch, CgroupLoss, Turn, encode
from dnstrail_cache.feed.feeder import Feeder
from dnstrail_cache.losses import EVERYBODY, Loser, losers
from dnstrail_cache.state.cache_clock import SECOND
from dnstrail_cache.state.cache_state import CacheState
from live.workers import FakeClock, Messages, asker, cache, probe, response, seen, short_folder, wait_until

DNS = "net_packet_dns"
A_COM = response("a.com", "a.com 60 A 192.0.2.1")


@pytest.fixture
def messages():
    return Messages()


@pytest.fixture
def clock():
    return FakeClock(wall=5000.0)


@pytest.fixture
def state(clock):
    return CacheState(Image(Bounds(grace=0)), clock)


@pytest.fixture
def feeder(messages, state):
    return Feeder(messages, state, lambda _conflict, _batch: None)


def batch(sequence=0, *, start="s", turn=0, at=1000.0, payload=A_COM):
    return DNS, encode(Batch(start, turn, sequence, [seen(payload, at)]))


def turn(number=0, last=-1, *, start="s", live=False):
    return TURN, encode(Turn(start, number, {DNS: last} if last >= 0 else {}, live, 5000 * SECOND))


def test_payloads_are_applied_with_their_own_time(feeder, state, messages):
    """A message counts at the probe's time stamp of its packet, not when it arrives."""
    messages.waiting += [batch(at=1000.25), turn(last=0)]
    feeder.drain()
    assert state.now == state.image.now == round(1000.25 * SECOND)
    assert state.image.get("a.com").ip_addresses == ["192.0.2.1"]
    assert state.follower.reached(("s", 0)) is True


@pytest.mark.parametrize(
    ("stamp", "counted"), [(LAST_TIME, 0), (2**62, 2), (2**63 - 1, 2), (2**64 - 1, 2), (-1, 0), (-(2**63), 0)]
)
def test_a_stamp_beyond_all_times_is_cut(feeder, state, messages, stamp, counted):
    """Whatever stamp a probe sends, its message counts at a time that the image can hold, with the longest life."""
    events = [Captured(stamp, response("a.com", "a.com 604800 A 192.0.2.1"))]
    messages.waiting += [(DNS, encode(Batch("s", 0, number, events))) for number in range(2)]
    feeder.drain()
    assert state.image.now == min(max(stamp, 0), LAST_TIME)
    assert state.image.get("a.com").ip_addresses == ["192.0.2.1"]
    assert (state.image.counters["messages"], state.counters["stamp_ahead"]) == (2, counted)
    assert state.image.now + 604_800 * SECOND < 2**62


def test_lookups_are_not_kept_waiting_by_a_flood(feeder, state, messages):
    """One call applies a bounded number of messages; the next calls apply the others, and none is lost."""
    messages.waiting += [batch(number, at=1000.0 + number) for number in range(1000)]
    feeder.drain()
    assert 0 < state.image.counters["messages"] < 1000
    while messages.waiting:
        feeder.drain()
    assert state.image.counters["messages"] == 1000
    assert not state.follower.lost


def test_slow_messages_are_fewer_at_once(messages):
    """If each message takes long, a call ends after its time, not after its number of messages."""

    class Slow(FakeClock):
        def monotonic(self):
            self.monotonic_time += 0.01
            return self.monotonic_time

    clock = Slow()
    state = CacheState(Image(), clock)
    feeder = Feeder(messages, state, lambda _conflict, _batch: None)
    messages.waiting += [batch(number) for number in range(100)]
    feeder.drain()
    assert 0 < state.image.counters["messages"] < 10


class Ticking(FakeClock):
    """A clock on which a millisecond passes at each look at it."""

    def monotonic(self):
        self.monotonic_time += 0.001
        return self.monotonic_time


def test_a_long_batch_is_applied_in_steps(messages):
    """A call ends in the middle of a batch; the next calls apply its other events, and only then its turn."""
    state = CacheState(Image(), Ticking())
    feeder = Feeder(messages, state, lambda _conflict, _batch: None)
    messages.waiting += [turn(), (DNS, encode(Batch("s", 1, 0, [seen(A_COM, 1000.0)] * 500))), turn(1, last=0)]
    applied = []
    while feeder.drain(0.002):
        applied.append(state.image.counters["messages"])
        assert (state.follower.reached(("s", 1)) is True) <= (applied[-1] == 500)
    assert max(after - before for before, after in pairwise([0, *applied, 500])) < 100
    assert state.image.counters["messages"] == state.applied[DNS] == 500
    assert state.follower.reached(("s", 1)) is True


def test_a_stamp_is_compared_with_the_arrival_of_its_batch(feeder, state, messages, clock):
    """A step decodes a batch, and the next one applies its events; the time between them makes no stamp possible."""
    messages.waiting += [turn(live=True)]
    feeder.drain()
    messages.waiting += [batch(turn=1, at=5000.5)]
    feeder.drain(0)
    assert (len(messages.waiting), state.image.counters["messages"]) == (0, 0)
    clock.advance(1)
    feeder.drain()
    assert (state.image.counters["messages"], state.counters["stamp_ahead"]) == (1, 1)


@pytest.mark.parametrize("bad", [["bad"], [7, 1000]], ids=["no event", "of no process in the table"])
def test_a_batch_with_a_bad_event_is_lost_alone(feeder, state, messages, bad):
    """A batch with a bad event is refused whole and counted as lost; the messages after it are applied."""
    wire = msgspec.msgpack.decode(encode(Batch("s", 1, 0, [seen(A_COM, 1000.0)] * 100)))
    wire[3][2][50] = bad
    messages.waiting += [turn(), (DNS, msgspec.msgpack.encode(wire)), batch(1, turn=1), turn(1, last=1)]
    while feeder.drain():
        pass
    assert state.counters == {"bad_bus_message": 1}
    assert state.image.counters["messages"] == 1
    assert state.follower.reached(("s", 1)) is False
    assert state.follower.lost == {DNS: 1}


def test_an_empty_bus_changes_nothing(feeder, state):
    """Without messages the image stays empty."""
    feeder.drain()
    assert (state.now == state.image.now < 0, len(state.image)) == (True, 0)


@pytest.mark.parametrize(
    ("live", "now"), [([False], 1000.0), ([True], 5000.0), ([False, True], 5000.0), ([True, False], 5000.0)]
)
def test_now_depends_on_the_probes(feeder, state, messages, live, now):
    """With a live probe now is the clock of the cache, else the greatest time stamp so far."""
    messages.waiting += [batch(at=1000.0), *(turn(start=str(n), live=each) for n, each in enumerate(live))]
    feeder.drain()
    assert state.now == now * SECOND


def test_the_image_is_swept_by_the_clock_of_the_stream(feeder, state, messages, clock):
    """With a live probe the image is swept as time passes, even if no message arrives."""
    messages.waiting += [turn(live=True), batch(at=clock.wall_time, turn=1), turn(1, last=0, live=True)]
    feeder.drain()
    assert len(state.image) == 1
    clock.advance(60 + state.image.bounds.history)
    feeder.drain()
    assert len(state.image) == 0


BAD = {
    "a turn that is empty": (TURN, b""),
    "a turn that is no MessagePack": (TURN, b"\xc1"),
    "a turn that is a map": (TURN, msgpack.packb({"start": "s"})),
    "a turn too short": (TURN, msgpack.packb(["s", 0])),
    "a turn with a wrong type": (TURN, msgpack.packb(["s", "0", {}, False, 0])),
    "a batch in the place of a turn": (TURN, batch()[1]),
    "a batch that is empty": (DNS, b""),
    "a batch that is text": (DNS, msgpack.packb("batch")),
    "a batch without its events": (DNS, msgpack.packb(["s", 0, 0])),
    "a turn in the place of a batch": (DNS, turn()[1]),
    "an event that is none": (DNS, msgpack.packb(["s", 0, 0, [1]])),
    "a payload of text": (DNS, msgpack.packb(["s", 0, 0, [[1, "payload"]]])),
    "a time of text": (DNS, msgpack.packb(["s", 0, 0, [["1", b"payload"]]])),
    "nested without end": (DNS, b"\x91" * 100_000),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_bus_message_is_counted(feeder, state, messages, case):
    """A message that is no batch and no turn is counted, and the next one is applied."""
    messages.waiting += [BAD[case], batch(), turn(last=0)]
    feeder.drain()
    assert state.counters == {"bad_bus_message": 1}
    assert state.image.counters["messages"] == 1
    assert state.follower.reached(("s", 0)) is True


def test_connections_that_wait_are_applied_early_by_host(feeder, state, messages):
    """A host that floods the connections of open turns has its own applied early; those of another host wait."""
    event = Captured(SECOND, b"", Flow(b"", 0, bytes([192, 0, 2, 1]), 443, "tcp", 1), None, {})
    batches = [Batch("honest", 0, 0, [event] * 1024, host="honest")]
    for start in ("x", "y", "z"):
        batches += [Batch(start, 0, number, [event] * 900, host="hostile") for number in range(3)]
    messages.waiting += [("net_tcp_connect", encode(each)) for each in batches]
    while feeder.drain():
        pass
    assert state.counters["applied_early"] == 8193 - 1024
    assert len(feeder._held.take("honest")) == 1024


def test_bad_payloads_never_stop_the_feeder(feeder, state, messages):
    """The image counts payloads that are no DNS messages, and relates the valid one among them."""
    payloads = [b"", b"x", bytes(12), b"\xff" * 600, A_COM[:-1], A_COM, A_COM + b"x"]
    events = [Captured(n, payload) for n, payload in enumerate(payloads)]
    messages.waiting.append((DNS, encode(Batch("s", 0, 0, events))))
    feeder.drain()
    counters = state.image.counters
    assert counters["messages"] == len(payloads)
    assert counters["bad_message"] >= 2
    assert state.image.get("a.com", now=0) is not None


START = 5000  # s; the doubt after the start of a cache and of a probe ends 30 s later
TO_CLIENT = Flow(bytes([10, 0, 0, 53]), 53, bytes([10, 0, 0, 2]), 40000, socket=7)


@pytest.fixture
def live(messages, clock):
    """Return a live probe, and a cache that rejects unmatched answers of parties that are not in doubt."""

    class Live:
        def __init__(self):
            self.state = CacheState(Image(), clock)
            self.feeder = Feeder(messages, self.state, lambda _conflict, _batch: None)
            self.turns = self.batches = 0
            self.kernel = {}

        def turn(self, at, *, lost=0, start="s", kernel=None):
            """End a turn in which some batches were lost on the bus; `kernel` counts losses of the probe so far."""
            self.batches += lost
            last = {DNS: self.batches - 1} if self.batches and start == "s" else {}
            self.kernel = kernel or self.kernel
            losses = {"kernel": self.kernel}
            clock.advance(at - clock.wall_time)
            messages.waiting.append((TURN, encode(Turn(start, self.turns, last, True, at * 10**9, lost=losses))))
            self.feeder.drain()
            self.turns += start == "s"

        def admits(self, at):
            """Apply an answer without a query; whether it was admitted."""
            before = self.state.image.counters["not_admitted"]
            clock.advance(at - clock.wall_time)
            event = Captured(at * 10**9, A_COM, TO_CLIENT)
            messages.waiting.append((DNS, encode(Batch("s", self.turns, self.batches, [event]))))
            self.batches += 1
            self.turn(at)
            return self.state.image.counters["not_admitted"] == before

    live = Live()
    live.turn(START)
    return live


def test_the_start_of_a_probe_casts_doubt_for_30_seconds(live):
    """Unmatched answers are admitted for 30 s after the start of a probe, and rejected later."""
    assert live.admits(START + 30)
    assert not live.admits(START + 31)
    live.turn(START + 100, start="another")
    assert live.admits(START + 130)
    assert not live.admits(START + 131)


def test_a_loss_on_the_bus_casts_doubt_for_30_seconds(live):
    """After a lost batch unmatched answers are admitted for 30 s: the lost batch may contain their queries."""
    assert not live.admits(START + 40)
    live.turn(START + 50, lost=1)
    assert live.state.follower.lost == {DNS: 1}
    assert live.admits(START + 80)
    assert not live.admits(START + 81)


@pytest.mark.parametrize(
    ("age", "live", "lost"),
    [(0.5, True, 9), (YOUNG, True, 9), (YOUNG + 0.1, True, 0), (7200, True, 0), (-1, True, 0), (0.5, False, 0)],
)
def test_events_before_the_first_message_of_a_young_start_are_lost(feeder, state, messages, age, live, lost):
    """A start of the last thirty seconds was to be received whole, and an older one is received from now on."""
    now = 5000 * SECOND
    turn = Turn("s", 3, {DNS: 2}, live, now, published={DNS: 9}, since=now - round(age * SECOND))
    messages.waiting.append((TURN, encode(turn)))
    messages.waiting.append((TURN, encode(replace(turn, turn=4, published={DNS: 10}))))
    feeder.drain()
    assert state.follower.lost.total() == lost + 1


def test_a_loss_at_a_probe_casts_doubt_for_30_seconds(live):
    """After a loss in the kernel or at the probe unmatched answers are admitted for 30 s."""
    assert not live.admits(START + 40)
    live.turn(START + 50, kernel={"ring_full": 1})
    assert live.admits(START + 80)
    assert not live.admits(START + 81)


@pytest.mark.parametrize(
    ("loss", "doubted"),
    [
        (CgroupLoss(5, 1, "", 4), {5}),
        (CgroupLoss(0, 1, "", 4), {5, 6}),
        (CgroupLoss(0, 1), {5, 6, 7}),
    ],
)
def test_losses_in_the_kernel_cast_doubt_on_their_cgroup_or_owner(live, loss, doubted):
    """A loss of a cgroup casts doubt on it, one of an owner on the cgroups of this owner, and another one on all."""
    live.turn(START + 50)
    losses = {"kernel": {"ring_full": 1}}
    turn = Turn("s", live.turns, {}, True, (START + 50) * 10**9, lost=losses, lost_by_cgroup=(loss,))
    live.feeder._note_losses(turn, Turn("s", 0, {}, True, 0))
    is_doubted = live.state.image.admission.doubts.is_doubted
    owners = {5: 4, 6: 4, 7: 7}
    found = {each for each in owners if is_doubted((("", "cgroup", each, owners[each]), True), live.state.now)}
    assert found == doubted


def test_evicted_streams_cast_doubt_on_their_cgroup(live):
    """TCP streams that the probe evicted are a loss of their cgroups, if these are known, else of all parties."""
    losses, loss = {"probe": {"tcp_evicted": 1}}, CgroupLoss(5, 1)
    assert list(losers(Turn("s", 1, {}, True, 0, lost=losses, lost_by_cgroup=(loss,)), None)) == [Loser(5)]
    assert list(losers(Turn("s", 1, {}, True, 0, lost=losses), None)) == [EVERYBODY]
    losses["probe"]["event_refused"] = 1
    assert EVERYBODY in losers(Turn("s", 1, {}, True, 0, lost=losses, lost_by_cgroup=(loss,)), None)


def test_a_loss_of_one_host_casts_no_doubt_on_another(messages, clock):
    """Losses on the bus and at a probe, and the start of a probe, put the parties of its own host in doubt alone."""
    state = CacheState(Image(), clock)
    feeder = Feeder(messages, state, lambda _conflict, _batch: None)

    def end(host, number, **fields):
        fields = {"last": {}, "live": True, "now": round(clock.wall_time * SECOND), **fields}
        messages.waiting.append((TURN, encode(Turn(fields.pop("start", host), number, host=host, **fields))))
        feeder.drain()
        is_doubted = state.image.admission.doubts.is_doubted
        return [is_doubted(((one, "", 0, 0), True), state.now) for one in ("honest", "hostile")]

    end("honest", 0)
    end("hostile", 0)
    clock.advance(31)
    assert end("honest", 1) == [False, False]
    for worse in ({"start": "new"}, {"last": {DNS: 7}}, {"lost": {"probe": {"full": 1}}}):
        assert end("hostile", 1, **worse) == [False, True]
        clock.advance(31)
        assert end("honest", 2) == [False, False]


def test_an_image_of_the_future_is_discarded(feeder, state, messages):
    """A file with late stamps, and a batch before the first turn of a clock that is ahead, delay no later answer."""
    messages.waiting += [turn(start="file"), batch(start="file", at=9000), turn(1, 0, start="file")]
    messages.waiting += [turn(live=True), batch(turn=1, at=5000)]
    feeder.drain()
    assert state.image.now == state.now == 5000 * SECOND
    assert (len(state.image), state.image.get("a.com", now=state.now).ip_addresses) == (1, ["192.0.2.1"])


def test_the_times_of_resolvers_outlive_an_image_of_the_future(feeder, state, messages):
    """Whoever observes responses receives those of the image that replaces a discarded one."""
    state.image.on_response = observer = lambda *_: None
    messages.waiting += [turn(start="file"), batch(start="file", at=9000), turn(1, 0, start="file"), turn(live=True)]
    feeder.drain()
    assert state.image.now < 9000 * SECOND
    assert state.image.on_response is observer


@pytest.mark.parametrize("clock_of_probe", [1400, 8600], ids=["behind", "ahead"])
def test_a_clock_that_is_unknown_yet_hides_no_answer(feeder, state, messages, clock_of_probe):
    """An answer that arrives before the first turn of its start counts as of now if the clock of its host is off."""
    messages.waiting += [turn(start="other", live=True), batch(at=clock_of_probe)]
    feeder.drain()
    assert state.image.get("a.com", now=5000 * SECOND + 59 * SECOND).ip_addresses == ["192.0.2.1"]
    assert state.image.get("a.com", now=5000 * SECOND + 61 * SECOND) is None


def test_the_history_begins_with_the_first_live_turn(live):
    """The cache claims no history from before the first turn of a live probe."""
    assert [live.state.image.remembers(START * SECOND + after) for after in (-1, 0)] == [False, True]


def test_a_worker_goes_on_after_bad_bus_messages():
    """Over a real socket, bad messages of a probe are counted in the stats, and its next turn is applied."""
    with (
        short_folder() as folder,
        cache(folder) as address,
        asker(address) as client,
        probe(folder) as publishing,
    ):
        for topic, body in BAD.values():
            assert publishing.publisher.publish(topic, body)
        mark = publishing.turn(seen(A_COM))
        wait_until(lambda: client.ask("get", key="a.com", after=[mark])["ok"])
        stats = client.ask("stats")["data"]
        assert stats["cache"]["bad_bus_message"] == len(BAD)
        assert stats["lost"]["total"] == 0


def test_a_connection_is_applied_after_the_answers_before_it(feeder, state, messages):
    """The connections of a turn are applied in the order of their stamps, after its answers, and before its end."""
    app = Process(70, "app", thread_id=70)
    flow = Flow(bytes([10, 0, 0, 53]), 53, bytes([10, 0, 0, 2]), 40000)

    def connection(at, socket):
        to = Flow(b"", 0, bytes([192, 0, 2, 1]), 443, "tcp", socket)
        return Captured(round(at * SECOND), b"", to, app, {"dst": "192.0.2.1", "dst_port": 443})

    def answered(name, at):
        return Captured(round(at * SECOND), response(name, f"{name} 60 A 192.0.2.1"), flow, app)

    connects = encode(Batch("s", 0, 0, [connection(1000.3, 2), connection(1000.1, 1)]))
    names = encode(Batch("s", 0, 0, [answered("a.com", 1000.0), answered("b.com", 1000.2)]))
    messages.waiting += [("net_tcp_connect", connects), (DNS, names)]
    feeder.drain()
    bindings = state.image.binder.bindings
    assert len(bindings) == 0
    messages.waiting.append((TURN, encode(Turn("s", 0, {DNS: 0, "net_tcp_connect": 0}, False, 5000 * SECOND))))
    feeder.drain()
    assert [bindings.of_socket(("", socket)).name for socket in (1, 2)] == ["a.com", "b.com"]


def test_too_many_connections_are_applied_early(feeder, state, messages):
    """Beyond 8,192 connections whose turn has not ended, all are applied, and counted."""
    event = Captured(SECOND, b"", Flow(b"", 0, bytes([192, 0, 2, 1]), 443, "tcp", 1), None, {})
    batches = [encode(Batch("s", 0, number, [event] * 1024)) for number in range(8)]
    messages.waiting += [("net_tcp_connect", body) for body in batches]
    while feeder.drain():
        pass
    assert state.counters["applied_early"] == 0
    messages.waiting.append(("net_tcp_connect", encode(Batch("s", 0, 8, [event]))))
    feeder.drain()
    assert state.counters["applied_early"] == 8193


def test_each_event_has_a_place_of_its_own(feeder, state, messages):
    """A fact and a conflict name the event that began them: start, topic, batch and place in it."""
    transactions, conflicts = state.image.begin_transactions(), []
    feeder._report = lambda captured, _batch: conflicts.append(captured)
    asked = [(query(f"n{number}.example", id_=number), OWN) for number in range(20)]
    answered = [(answer(address, name="n19.example", id_=19), back(OWN)) for address in ("192.0.2.1", "192.0.2.2")]
    events = [Captured(SECOND + number, *one) for number, one in enumerate(asked + answered)]
    messages.waiting.append((DNS, encode(Batch("s", 0, 7, events))))
    feeder.drain()
    assert [one.id for one in transactions.take()] == ["s/7/19"]
    assert [one.timestamp for one in conflicts] == [SECOND + 21]


def test_the_stages_of_a_connection_name_its_event(feeder, state, messages):
    """The id of a stage is the place of the connection event, and not that of the event that led to the stage."""
    stages = state.image.begin_connections()
    flows = [Flow(b"", 0, bytes([192, 0, 2, 1]), 443, "tcp", socket) for socket in range(1, 21)]
    opened = [Captured(SECOND, b"", flow, None, {"dst": "192.0.2.1", "dst_port": 443}) for flow in flows]
    closed = Captured(2 * SECOND, b"", flows[-1], None, {"bytes_sent": 3, "bytes_received": 4})
    messages.waiting += [
        ("net_tcp_connect", encode(Batch("s", 0, 7, opened))),
        ("net_tcp_close", encode(Batch("s", 0, 3, [closed]))),
        (TURN, encode(Turn("s", 0, {"net_tcp_connect": 7, "net_tcp_close": 3}, False, 5000 * SECOND))),
    ]
    while feeder.drain():
        pass
    found = stages.take()
    assert [one.id for one in found[:-1]] == [f"s/net_tcp_connect/7/{place}/opened" for place in range(20)]
    assert (found[-1].id, *found[-1].stage[3:]) == ("s/net_tcp_connect/7/19/end", "closed", 3, 4)
