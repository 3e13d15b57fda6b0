"""A hostile host with an allowed key: whatever it publishes, it speaks for itself alone."""

from __future__ import annotations

import time

import pytest

from dnstrail.captured import Captured, Flow, Process
from dnstrail.events import NET_PACKET_DNS, NET_TCP_CLOSE, NET_TCP_CONNECT
from dnstrail.image import Bounds
from dnstrail.protocol import catch_up
from dnstrail.protocol.batches import TURN, Batch, CgroupLoss, Turn, encode
from dnstrail.protocol.keyed_subscriber import REFUSED
from dnstrail.protocol.replay_window import ReplayWindow
from dnstrail.protocol.replays import Replay, encode_replay
from live.keyed_hosts import HONEST, HOSTILE, keyed_hosts
from live.workers import SteppedClock, response, wait_until, wait_until_seen

LATER, MOST = 1 << 62, (1 << 53) - 1
NAMES = 20
PUBLISHED = {NET_PACKET_DNS: 0}


@pytest.fixture
def hosts():
    with keyed_hosts() as both:
        yield both


def now():
    return time.time_ns()


def answer(name, address="192.0.2.1", stamp=None, process=None):
    """Return an answer that a host captured just now."""
    return Captured(stamp or now(), response(name, f"{name} 300 A {address}"), process=process)


def turn(start, number=0, *, at=None, published=PUBLISHED, **fields):
    """Return the end of a live turn of the hostile host."""
    fields = {"live": True, "host": HONEST, **fields}
    return Turn(start, number, {}, now=at or now(), published=published, **fields)


def batch(start, *events, number=0, sequence=0, host=HONEST, before=PUBLISHED):
    """Return a batch of the hostile host, which states that it comes from the honest one."""
    return NET_PACKET_DNS, Batch(start, number, sequence, events, before, host)


def same_start(hosts):
    """End turns of the honest start, at an impossible time."""
    hosts.hostile.send(*(turn(hosts.honest.start, number, at=LATER) for number in (0, 1, 1000)))


def late_first_turn(hosts):
    """Begin with a turn at an impossible time."""
    hosts.hostile.send(turn("x", at=LATER), batch("x", answer("evil.example", stamp=LATER - 1)), turn("x", 1, at=LATER))


def late_later_turn(hosts):
    """Let the clock jump after the first turn."""
    hosts.hostile.send(turn("x"), turn("x", 1, at=LATER), batch("x", answer("evil.example", stamp=LATER), number=2))


def file_of_the_future(hosts):
    """Publish a file whose stamps are far ahead."""
    hosts.hostile.send(turn("x", live=False), batch("x", answer("evil.example", stamp=LATER)))


def many_published(hosts):
    """Claim events that nobody received, by turns, batches and turn numbers."""
    some = {NET_PACKET_DNS: MOST}
    hosts.hostile.send(turn("x"), turn("x", 1, published=some), batch("x", before=some), turn("x", MOST))


def other_host(hosts):
    """State answers of the honest host, of its start too."""
    wrong = [answer(f"n{number}.example", "203.0.113.9") for number in range(NAMES)]
    for start in ("x", hosts.honest.start):
        hosts.hostile.send(turn(start), batch(start, *wrong, number=1), turn(start, 1, published={NET_PACKET_DNS: 20}))


def doubts(hosts):
    """State losses of many cgroups of the honest host, and lose turns."""
    lost = tuple(CgroupLoss(number, 5) for number in range(1, 256))
    hosts.hostile.send(*(turn("x", number, lost_by_cgroup=lost[:number]) for number in (0, 5, 255)))


def many_starts(hosts):
    """Begin many starts, and end them."""
    for number in range(300):
        hosts.hostile.send(turn(f"x{number}"), turn(f"x{number}", 1, ended=True))


def damage(hosts):
    """Send bytes that are no message."""
    for topic in ("turn", NET_PACKET_DNS):
        for body in (b"", b"\xc1", b"\x96" * 50, bytes(1000)):
            hosts.hostile.publisher.publish(topic, body)


FORMS = [
    same_start,
    late_first_turn,
    late_later_turn,
    file_of_the_future,
    many_published,
    other_host,
    doubts,
    many_starts,
    damage,
]


def found(client, name, mark):
    """Return the complete reply to a lookup after a mark. A busy machine may need more than one attempt."""
    replies = []

    def is_complete():
        replies.append(client.ask("get", key=name, after=[mark]))
        return replies[-1].get("complete", True)

    wait_until(is_complete, f"the end of the turn of {name}")
    return replies[-1]


@pytest.mark.parametrize("clock", [0, 3600, -3600], ids=["in time", "an hour ahead", "an hour behind"])
@pytest.mark.parametrize("early", [False, True], ids=["afterwards", "before the first turn of the honest host"])
@pytest.mark.parametrize("attack", FORMS)
def test_no_name_of_another_host_is_missing_or_late(hosts, attack, early, clock):
    """Each name of the honest host is found behind its mark, whatever the hostile one did before."""
    stepped = SteppedClock()
    stepped.step = clock
    honest = hosts.honest.probe(stepped)
    with hosts.cache(Bounds(grace=0)) as (client, _):
        if early:
            attack(hosts)
        wait_until_seen(client, honest.turn())
        attack(hosts)
        for number in range(NAMES):
            mark = honest.turn(answer(f"n{number}.example", stamp=now() + clock * 1_000_000_000))
            reply = found(client, f"n{number}.example", mark)
            assert reply["ok"], f"name {number} is missing"
            assert "192.0.2.1" in reply["data"]["ip_addresses"]
        assert all(client.ask("get", key=f"n{number}.example")["ok"] for number in range(NAMES))


def test_what_a_host_claims_spoils_no_count(hosts):
    """Claims that no probe can make are refused and counted; the losses of each host are counted apart."""
    honest = hosts.honest.probe()
    with hosts.cache() as (client, _):
        wait_until_seen(client, honest.turn())
        many_published(hosts)
        honest.lose_turn(answer("lost.example"))
        wait_until_seen(client, honest.turn())
        wait_until(lambda: client.ask("stats")["data"]["cache"].get(REFUSED) == 3, "the refusals")
        hosts.hostile.send(turn("x", 1, lost={"kernel": {"ring_full": MOST}}))
        wait_until(lambda: HOSTILE in client.ask("stats")["data"]["lost_by_host"], "the claim of a loss")
        stats = client.ask("stats")["data"]
    assert stats["lost"]["bus"] == {NET_PACKET_DNS: 1, "turn": 1}
    assert stats["lost_by_host"] == {HOSTILE: MOST, HONEST: 1}


def test_a_host_ends_no_connection_of_another(hosts):
    """The end of a connection that a hostile host states with the socket and name of another host ends none of it."""
    flow = Flow(bytes([10, 0, 0, 2]), 40000, bytes([192, 0, 2, 1]), 443, "tcp", socket=7)
    opened = Captured(now(), b"", flow, Process(70, "app"), {"dst": "192.0.2.1", "dst_port": 443})
    closing = NET_TCP_CLOSE, Batch("x", 1, 0, [Captured(now(), b"", flow)], {}, HONEST)
    honest = hosts.honest.probe()
    with hosts.cache() as (client, _):
        wait_until_seen(client, honest.turn((NET_TCP_CONNECT, opened)))
        hosts.hostile.send(turn("x"), closing, turn("x", 1))
        wait_until_seen(client, (hosts.hostile.remote.own("x"), 1))
        assert [one["process_id"] for one in client.ask("connections")["data"]["connections"]] == [70]


def test_the_names_of_a_connection_are_found_by_its_start(hosts):
    """A client that names the host of a connection differently gets its names: the start of its event is the same."""
    flow = Flow(bytes([10, 0, 0, 2]), 40000, bytes([192, 0, 2, 1]), 443, "tcp", socket=7)
    app = Process(70, "app", thread_id=70)
    asked = [answer(name, process=app) for name in ("meant.example", "other.example")]
    opened = Captured(now(), b"", flow, app, {"dst": "192.0.2.1", "dst_port": 443})
    honest = hosts.honest.probe()
    to = {"address": "192.0.2.1", "socket": 7, "host": "its name elsewhere", "event": (honest.start, opened.timestamp)}
    with hosts.cache() as (client, _):
        wait_until_seen(client, honest.turn(asked[0], (NET_TCP_CONNECT, opened)))
        wait_until_seen(client, honest.turn(asked[1]))
        assert client.ask("rank", connections=[to])["data"][0][0] == "meant.example"


def test_a_host_replays_no_turn_of_another(hosts, monkeypatch):
    """A restarted cache asks each host for its own turns alone, and then closes the connections for replays."""
    monkeypatch.setattr(catch_up, "SETTLED", 6.0)
    honest, file = hosts.honest.probe(), hosts.folder / "state"
    window = ReplayWindow(honest.start)
    honest._batches.window = window
    with hosts.cache(state_file=file) as (client, _):
        hosts.hostile.send(turn("x"))
        wait_until_seen(client, honest.turn())
    wait_until(lambda: not honest.publisher.subscribers(TURN), "the end of the cache")
    wait_until(lambda: not hosts.hostile.publisher.subscribers(TURN), "the same")
    honest.turn(answer("missed.example"))
    forged = [(topic, encode(each)) for topic, each in [batch(honest.start, answer("missed.example", "203.0.113.9"))]]

    def replayed():
        if (asked := hosts.hostile.replays.receive()) is not None:
            asked.reply(encode_replay(Replay(forged, MOST)))
        window.serve(hosts.honest.replays)
        return client.ask("get", key="missed.example")["ok"]

    with hosts.cache(state_file=file) as (client, replays):
        honest.turn()
        hosts.hostile.send(turn("x", 5))
        wait_until(replayed, "the replay")
        assert client.ask("get", key="missed.example")["data"]["ip_addresses"] == ["192.0.2.1"]
        wait_until(lambda: all(each.socket.closed for each in replays), "the end of the replays")
        assert client.ask("stats")["data"]["lost_by_host"] == {}


def test_a_host_that_answers_no_request_for_a_replay_delays_no_other(hosts, monkeypatch):
    """While a cache that has just started awaits the replay of one host, names of another host are found."""
    monkeypatch.setattr(catch_up, "PATIENCE", 3600.0)
    monkeypatch.setattr(catch_up, "SETTLED", 3600.0)
    honest = hosts.honest.probe()
    window = ReplayWindow(honest.start)
    honest._batches.window = window
    with hosts.cache(state_file=hosts.folder / "state") as (client, _):
        hosts.hostile.send(turn("x"))
        wait_until(hosts.hostile.replays.receive, "the request for a replay")
        honest.turn(answer("honest.example"))

        def found():
            window.serve(hosts.honest.replays)
            return client.ask("get", key="honest.example")["ok"]

        wait_until(found, "the name of the honest host")


@pytest.mark.parametrize("kind", ["cgroups", "namespaces", "clients"])
def test_a_host_that_makes_up_parties_evicts_no_name_of_another(hosts, kind):
    """Answers of many made-up cgroups, namespaces or clients of one host evict roots of this host alone."""
    honest = hosts.honest.probe()
    with hosts.cache(Bounds(grace=0, size=200)) as (client, _):
        wait_until_seen(client, honest.turn(*(answer(f"n{number}.example") for number in range(NAMES))))
        hosts.hostile.send(turn("x"))
        for part in range(20):
            made_up = [_of_party(kind, part * 100 + number) for number in range(100)]
            published = {NET_PACKET_DNS: 100 * (part + 1)}
            one = batch("x", *made_up, number=part + 1, sequence=part, before={NET_PACKET_DNS: 100 * part})
            hosts.hostile.send(one, turn("x", part + 1, published=published))
        wait_until_seen(client, (hosts.hostile.remote.own("x"), 20))
        assert all(client.ask("get", key=f"n{number}.example")["ok"] for number in range(NAMES))


def _of_party(kind, number):
    flow = Flow(
        bytes([192, 0, 2, 53]),
        53,
        (0x0A000000 + number).to_bytes(4, "big"),
        40000,
        namespace=number + 1 if kind == "namespaces" else 0,
    )
    process = Process(70, "x", cgroup_id=number + 1, thread_id=70) if kind == "cgroups" else None
    name = f"evil{number}.example"
    return Captured(now(), response(name, f"{name} 300 A 203.0.113.9"), flow, process)
