"""A subscriber that restarts receives what it missed, in order and once."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from dnstrail.bus import RemoteHost
from dnstrail.protocol.batches import TURN, YOUNG, Batch, Turn, decode, encode, may_be_missed
from dnstrail.protocol.catch_up import LONGEST, PATIENCE, SETTLED, CatchUp
from dnstrail.protocol.replays import Replay, decode_request, encode_replay, replay_address
from dnstrail.protocol.turn_follower import Position, TurnFollower
from live.workers import FakeClock, Messages

DNS = "net_packet_dns"
SECOND = 1_000_000_000
MOST = (1 << 53) - 1
AT = 4  # the last turn of the position


def batch(turn, sequence=None, start="s"):
    """Return the message of a batch with one number for each turn."""
    number = turn if sequence is None else sequence
    return DNS, encode(Batch(start, turn, number, (), {DNS: 0}))


def end(turn, start="s"):
    """Return the message that ends a turn."""
    return TURN, encode(Turn(start, turn, {DNS: turn}, live=True, now=turn, published={DNS: 0}))


def whole(turns, start="s"):
    """Return the messages of turns."""
    return [message for turn in turns for message in (batch(turn, start=start), end(turn, start))]


class Window:
    """A requester whose probe has some turns, a few in each reply."""

    remote = None

    def __init__(self, turns, at_once=2, start="s", silent=False):
        self.turns = turns
        self.at_once = at_once
        self.start = start
        self.silent = silent
        self.asked = []
        self._waiting = None

    def send(self, body):
        """Take a request."""
        request = decode_request(body)
        self.asked.append(request.after)
        held = [turn for turn in self.turns if turn > request.after][: self.at_once]
        known = request.start == self.start and held
        messages, last = (whole(held, self.start), held[-1]) if known else ([], 0)
        self._waiting = encode_replay(Replay(messages, last, self.start))
        return True

    def reply(self):
        """Return the reply once."""
        if self.silent:
            return None
        reply, self._waiting = self._waiting, None
        return reply


class Running:
    """A subscriber that continues at turn AT, and the turns that it receives."""

    def __init__(self, *sources, positions=None, **options):
        self.clock = FakeClock()
        self.live = Messages()
        self.counters = Counter()
        self.early = []
        if positions is None:
            positions = {"s": Position(AT, {DNS: AT + 1}, {DNS: 0})}
        self.subscriber = CatchUp(
            self.live, sources, positions, self.clock.monotonic, self.early.append, self.counters, **options
        )
        self.follower = TurnFollower((DNS,))
        self.follower.resume(positions)

    def receive(self):
        """Return the messages that can be received, as topics with their turns."""
        received = []
        while (message := self.subscriber.receive()) is not None:
            topic, body = message
            if topic == TURN:
                turn = decode(body, Turn)
                self.follower.turn(turn)
                received.append(("end", turn.turn))
            else:
                decoded = decode(body, Batch)
                self.follower.batch(topic, decoded)
                received.append(("batch", decoded.turn))
        return received


def shown(turns):
    """Return the whole turns as `receive` shows them."""
    return [(kind, turn) for turn in turns for kind in ("batch", "end")]


def test_the_turns_between_are_received_first_and_once():
    """The missed turns come before the live ones. Each turn is received once, and nothing counts as lost."""
    window = Window(range(12))
    running = Running(window)
    running.live.waiting += whole(range(9, 15))
    assert running.receive() == shown(range(5, 15))
    assert window.asked == [4, 6, 8]
    assert running.follower.lost.total() == 0
    assert running.counters == {"replayed": 10}


def test_a_subscriber_states_that_it_waits():
    """It waits from a gap until the replay has closed the gap."""
    window = Window(range(12), silent=True)
    running = Running(window)
    assert (running.receive(), running.subscriber.waits) == ([], False)
    running.live.waiting += whole([9])
    assert (running.receive(), running.subscriber.waits) == ([], True)
    window.silent = False
    assert (running.receive(), running.subscriber.waits) == (shown(range(5, 10)), False)


def test_a_batch_with_damaged_events_keeps_its_place():
    """A batch waits for the turns before it, whatever its events are: whoever receives it decodes them."""
    running = Running(Window(range(12)))
    damaged = DNS, msgspec.msgpack.encode(["s", 10, 10, "no events", {}, ""])
    running.live.waiting += [*whole([9]), damaged]
    assert [running.subscriber.receive() for _ in range(11)] == [*whole(range(5, 10)), damaged]


def test_a_part_of_a_turn_is_not_received_twice():
    """Batches of the open turn that were received before the restart are left out."""
    running = Running(Window(range(12)), positions={"s": Position(AT, {DNS: AT + 2}, {DNS: 0})})
    running.live.waiting += whole(range(7, 9))
    assert running.receive() == [("end", 5), *shown(range(6, 9))]
    assert running.follower.lost.total() == 0


def test_live_turns_wait_for_the_replay():
    """Messages that arrive wait until the first turn has ended and the reply is there; each turn is noted at once."""
    window = Window(range(12), silent=True)
    running = Running(window)
    running.live.waiting.append(batch(9))
    assert (running.receive(), window.asked) == ([], [])
    running.live.waiting.append(end(9))
    assert (running.receive(), window.asked) == ([], [4])
    assert [turn.turn for turn in running.early] == [9]
    window.silent = False
    assert running.receive() == shown(range(5, 10))


def test_turns_that_the_probe_has_no_more_are_counted():
    """A window that begins later leaves a gap, which counts as lost; the rest is received."""
    running = Running(Window(range(7, 12)))
    running.live.waiting += whole(range(9, 11))
    assert running.receive() == shown(range(7, 11))
    assert running.follower.lost[TURN] == 2


@pytest.mark.parametrize("sources", [[], [Window([])], [Window(range(12), start="another")]])
def test_a_probe_without_a_window_leaves_the_live_turns(sources):
    """If no probe replays the start, its live turns are received, and the gap is counted."""
    running = Running(*sources)
    running.live.waiting += whole(range(9, 11))
    assert running.receive() == shown(range(9, 11))
    assert running.follower.lost[TURN] == 4
    assert running.counters == {"replays_failed": 1}


def test_a_silent_probe_is_given_up():
    """A probe that does not reply is given up after PATIENCE, and the next one is asked."""
    running = Running(Window(range(12), silent=True), Window(range(12)))
    running.live.waiting += whole([9])
    assert running.receive() == []
    running.clock.advance(PATIENCE)
    assert running.receive() == shown(range(5, 10))


def test_the_only_probe_has_the_whole_time():
    """A starved probe whose reply takes longer than PATIENCE costs nothing: nobody else has its turns."""
    window = Window(range(12), silent=True)
    running = Running(window)
    running.live.waiting += whole([9])
    assert running.receive() == []
    running.clock.advance(SETTLED - 0.1)
    assert running.receive() == []
    window.silent = False
    assert running.receive() == shown(range(5, 10))
    assert running.follower.lost.total() == 0


def test_a_start_that_is_new_is_replayed_from_its_beginning():
    """A probe that started meanwhile replays its first turns."""
    running = Running(Window(range(12)), positions={"old": Position(7, {}, {})})
    running.live.waiting += whole(range(2, 4))
    assert running.receive() == shown(range(4))


@pytest.mark.parametrize(
    ("age", "published", "asked"),
    [(1, {DNS: 1}, True), (YOUNG, {DNS: 1}, True), (YOUNG + 1, {DNS: 1}, False), (1, {DNS: 0}, False), (1, {}, False)],
)
def test_without_positions_the_events_of_young_starts_alone_are_asked_for(age, published, asked):
    """A subscriber that goes on from nothing asks a probe that started with it, and only if it published events."""
    window = Window(range(3))
    running = Running(window, positions={}, is_asked_for=may_be_missed)
    now = 100 * SECOND
    turn = Turn("s", 2, {DNS: 2}, live=True, now=now, published=published, since=now - round(age * SECOND))
    running.live.waiting.append((TURN, encode(turn)))
    assert running.receive() == (shown(range(3)) if asked else [("end", 2)])
    assert bool(window.asked) is asked


@pytest.mark.parametrize(("until", "taken"), [(0, True), (7_000_000, True), (MOST, False)])
def test_another_host_replays_no_counts_that_do_not_lead_to_its_live_turn(until, taken):
    """Replayed counts that no probe can have had within two minutes before the first live turn are refused."""
    window = Window(range(2), start="aa.s")
    window.remote = RemoteHost("aa", "alpha")
    running = Running(window, positions={})
    running.live.waiting.append((TURN, encode(Turn("aa.s", 1, {}, True, 0, published={DNS: until}))))
    assert running.receive() == (shown([0, 1]) if taken else [("end", 1)])
    assert running.counters["replays_failed"] == (not taken)


def test_several_probes_catch_up_one_after_the_other():
    """Each start has a gap of its own, closed by its own probe."""
    positions = {name: Position(AT, {DNS: AT + 1}, {DNS: 0}) for name in ("s", "t")}
    running = Running(Window(range(9)), Window(range(9), start="t"), positions=positions)
    running.live.waiting += [*whole([6]), *whole([7], "t"), *whole([7])]
    assert running.receive() == [*shown([5, 6]), *shown([5, 6, 7]), *shown([7])]
    assert running.follower.lost.total() == 0


def test_a_probe_that_has_named_another_start_is_not_asked_again():
    """Of many probes on this host each is asked for its own start alone, once it has named it."""
    windows = [Window(range(3), start=f"s{number}") for number in range(20)]
    running = Running(*windows, positions={})
    for number in reversed(range(20)):
        running.live.waiting += whole([2], f"s{number}")
    assert running.receive() == shown(range(3)) * 20
    assert sum(len(window.asked) for window in windows) <= 20 + 2 * 20


def test_the_probe_of_a_file_is_not_asked():
    """The turns of a file are received as they arrive."""
    window = Window(range(12))
    running = Running(window, positions={})
    running.live.waiting += [(TURN, encode(Turn("file", turn, {}, live=False, now=0))) for turn in (3, 4)]
    assert running.receive() == [("end", 3), ("end", 4)]
    assert window.asked == []


def test_damaged_messages_pass():
    """A message that is damaged, and a reply that is, change nothing else."""
    running = Running(Window(range(12)))
    running.live.waiting += [(DNS, b"\xc1"), *whole([5])]
    assert running.subscriber.receive() == (DNS, b"\xc1")
    assert running.receive() == shown([5])


def test_after_a_while_messages_pass_through():
    """When SETTLED seconds have passed, no further start is asked for, and messages are not decoded."""
    window = Window(range(12))
    running = Running(window)
    running.clock.advance(SETTLED)
    running.live.waiting += whole([9])
    assert running.receive() == shown([9])
    running.live.waiting += whole([3], "new")
    assert running.receive() == shown([3])
    assert window.asked == []


@pytest.mark.parametrize(
    ("events", "replay"),
    [
        ("ipc:///run/dnstrail/events.sock", "ipc:///run/dnstrail/events-replay.sock"),
        ("ipc:///run/x/e", "ipc:///run/x/e-replay"),
        ("tcp://192.0.2.1:7001", "tcp://192.0.2.1:7002"),
        ("tcp://[2001:db8::1]:7001", "tcp://[2001:db8::1]:7002"),
    ],
)
def test_replays_have_an_address_beside_the_events(events, replay):
    """The socket of replays lies beside the socket of events; between hosts it has the next port."""
    assert replay_address(events) == replay


def test_an_endless_replay_ends():
    """A probe that replays turn after turn, slowly, delays the messages of other starts for ten seconds at most."""

    class Slow(Window):
        def reply(self):
            running.clock.advance(1)
            return super().reply()

    window = Slow(range(1000), at_once=1)
    running = Running(window, positions={})
    running.live.waiting += [*whole([999]), *whole([0], start="other")]
    began = running.clock.monotonic()
    received = []
    while received[-1:] != [("end", 0)]:
        received += running.receive()
    assert SETTLED <= running.clock.monotonic() - began <= SETTLED + 2
    assert received == [*shown(range(10)), *shown([999]), *shown([0])]


def test_a_replay_that_takes_long_to_handle_is_whole():
    """A subscriber that is slow receives all turns that its probe has, and those of the next start."""
    positions = {name: Position(AT, {DNS: AT + 1}, {DNS: 0}) for name in ("s", "t")}
    running = Running(Window(range(200)), Window(range(12), start="t"), positions=positions)
    running.live.waiting += [*whole([199]), *whole([9], "t")]
    received = []
    while received[-1:] != [TURN] or running.follower.last("t") is None or running.follower.last("t").turn < 9:
        topic, body = running.subscriber.receive()
        (running.follower.turn if topic == TURN else lambda _: None)(decode(body, Turn if topic == TURN else Batch))
        received.append(topic)
        running.clock.advance(SETTLED / 50)
    assert len(received) == len(whole(range(5, 200))) + len(whole(range(5, 10)))
    assert running.counters["replays_failed"] == 0


def test_a_replay_without_an_end_ends():
    """However quick the replies are, the messages of other starts wait for LONGEST at most."""
    running = Running(Window(range(10_000), at_once=1), positions={})
    running.live.waiting += [*whole([9_999]), *whole([0], start="other")]
    began = running.clock.monotonic()
    while running.follower.last("other") is None:
        topic, body = running.subscriber.receive()
        (running.follower.turn if topic == TURN else lambda _: None)(decode(body, Turn if topic == TURN else Batch))
        running.clock.advance(0.1)
    assert LONGEST <= running.clock.monotonic() - began <= LONGEST + 2


def host(name, number, **window):
    """Return the window of a probe of another host, and the start of this probe."""
    remote = RemoteHost(f"{number:02x}", name)
    found = Window(range(12), start=remote.own("s"), **window)
    found.remote = remote
    return found


def positions_of(*windows):
    """Return the positions after turn AT of the starts of some windows."""
    return {window.start: Position(AT, {DNS: AT + 1}, {DNS: 0}) for window in windows}


@pytest.mark.parametrize("dead", [1, 20])
def test_hosts_that_do_not_answer_delay_no_other(dead):
    """While other hosts reply to no request, a host is received at once, with what it replays, and without a loss."""
    silent = [host(f"dead{number}", number, silent=True) for number in range(dead)]
    honest = host("honest", 99)
    running = Running(*silent, honest, positions=positions_of(*silent, honest))
    for window in (*silent, honest):
        running.live.waiting += whole([9], window.start)
    assert running.receive() == shown(range(5, 10))
    running.live.waiting += whole([10], honest.start)
    assert running.receive() == shown([10])
    assert running.follower.lost.total() == 0
    assert [window.asked for window in silent] == [[AT]] * dead


def test_a_host_that_replays_slowly_delays_no_other():
    """While a host replays one turn after the other, each in time, another one is received at once."""
    slow, honest = host("slow", 1, at_once=1), host("honest", 2)
    running = Running(slow, honest, positions=positions_of(slow, honest))
    slow.silent = True
    running.live.waiting += [*whole([9], slow.start), *whole([9], honest.start)]
    assert running.receive() == shown(range(5, 10))
    for turn in range(5, 9):
        running.clock.advance(PATIENCE - 0.1)
        slow.silent = False
        assert running.subscriber.receive() is not None
        slow.silent = True
        running.live.waiting += whole([turn + 5], honest.start)
        assert shown([turn + 5])[1] in running.receive()


def test_a_flood_of_a_host_that_does_not_answer_ends_its_wait(monkeypatch):
    """A host that sends more than has room while its replay is awaited waits no longer; nobody else is delayed."""
    monkeypatch.setattr("dnstrail.protocol.catch_up.MOST_RECEIVED", 64 << 10)
    silent, honest = host("silent", 1, silent=True), host("honest", 2)
    running = Running(silent, honest, positions=positions_of(silent, honest))
    running.live.waiting += [*whole(range(9, 200), silent.start), *whole([9], honest.start)]
    assert running.receive() == []
    received = running.receive()
    assert running.counters["replays_failed"] == 1
    assert {*shown(range(5, 10)), *shown(range(9, 200))} == {*received}
    assert not running.live.waiting
