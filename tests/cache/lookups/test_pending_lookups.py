from __future__ import annotations

from contextlib import ExitStack
from typing import NamedTuple

import pytest
import zmq

from dnstrail.image import Bounds
from dnstrail.protocol.batches import TURN, Batch, Turn, encode
from dnstrail.protocol.lookups import GetRequest, RefusedRequestError
from dnstrail.protocol.turn_follower import _FAR_AHEAD, TurnFollower
from dnstrail_cache.lookups.pending_lookups import PendingLookup, PendingLookups, is_complete
from dnstrail_cache.losses import SkippedTurns
from live.workers import FakeClock, asker, cache, probe, response, seen, short_folder, wait_until, wait_until_seen

A_COM = response("a.com", "a.com 60 A 192.0.2.1")


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def served(folder, clock):
    with cache(folder, clock=clock, bounds=Bounds()) as address:
        yield address


@pytest.fixture
def client(served):
    with asker(served, zmq.DEALER) as client:
        yield client


@pytest.fixture
def other(served):
    """Yield a second client, for stats."""
    with asker(served) as other:
        yield other


@pytest.fixture
def publishing(folder, served):
    with probe(folder) as publishing:
        yield publishing


class Served(NamedTuple):
    """A request as far as the queue uses it."""

    client: bytes
    body: bytes = b""


def counted(other, name):
    return other.ask("stats")["data"]["cache"].get(name, 0)


def test_a_reached_mark_is_answered_at_once(client, other, publishing):
    """A lookup after a received turn does not wait, and is complete."""
    mark = publishing.turn(seen(A_COM))
    wait_until(lambda: other.ask("health")["data"]["turns"]["start"] == mark[1])
    assert client.ask("get", key="a.com", after=[mark, ("start", 0)])["complete"] is True
    assert counted(other, "parked") == 0


def test_a_lookup_waits_for_the_end_of_its_turn(client, other, publishing):
    """A lookup that arrives before its event waits for it; other lookups do not wait."""
    mark = publishing.next_mark
    client.send("get", key="a.com", after=[mark])
    wait_until(lambda: counted(other, "parked") == 1)
    assert other.ask("get", key="a.com")["error"] == "data_not_found"
    publishing.turn(seen(A_COM))
    reply = client.receive()
    assert (reply["complete"], reply["data"]["dns_root"]) == (True, "a.com")
    assert counted(other, "incomplete") == 0


def test_a_batch_without_the_end_of_its_turn_is_not_enough(client, other, publishing):
    """A lookup waits for the end of its turn: until then further events may follow."""
    start, turn = publishing.next_mark
    client.send("get", key="192.0.2.1", after=[(start, turn)])
    wait_until(lambda: counted(other, "parked") == 1)
    send = publishing.publisher.publish
    assert send("net_packet_dns", encode(Batch(start, turn, 0, [seen(A_COM)])))
    wait_until(lambda: other.ask("get", key="a.com")["ok"])
    b_com = response("b.com", "b.com 60 A 192.0.2.1")
    assert send("net_packet_dns", encode(Batch(start, turn, 1, [seen(b_com)])))
    assert send(TURN, encode(Turn(start, turn, {"net_packet_dns": 1}, False, 0)))
    reply = client.receive()
    assert reply["complete"] is True
    assert set(reply["data"]["dns_queries"]) == {"a.com", "b.com"}


def test_patience_ends_incomplete(client, other, publishing, clock):
    """After 200 ms without its turn a lookup is answered, and is not complete."""
    wait_until_seen(other, publishing.turn(seen(A_COM)))
    client.send("get", key="a.com", after=[publishing.next_mark])
    wait_until(lambda: counted(other, "parked") == 1)
    clock.monotonic_time += 0.199
    assert [other.ask("version")["ok"] for _ in range(3)] == [True] * 3
    assert client.socket.poll(0) == 0
    clock.monotonic_time += 0.002
    reply = client.receive()
    assert (reply["complete"], reply["data"]["dns_root"]) == (False, "a.com")
    assert counted(other, "incomplete") == 1


def test_a_key_without_data_after_the_patience_is_not_found(client, other, publishing, clock):
    """A parked lookup of an unknown key ends as data_not_found, and is not complete."""
    client.send("get", key="b.com", after=[publishing.next_mark])
    wait_until(lambda: counted(other, "parked") == 1)
    clock.monotonic_time += 0.2
    reply = client.receive()
    assert (reply["error"], reply["complete"]) == ("data_not_found", False)


def test_a_step_of_the_wall_clock_ends_no_patience(client, other, publishing, clock):
    """The patience is measured by the monotonic clock."""
    client.send("get", key="a.com", after=[publishing.next_mark])
    wait_until(lambda: counted(other, "parked") == 1)
    clock.wall_time += 1e6
    publishing.turn(seen(A_COM))
    assert client.receive()["complete"] is True


def test_an_unknown_start_is_answered_at_once(client, other, publishing):
    """A mark of an unknown start is out of reach: the lookup does not wait."""
    mark = publishing.turn(seen(A_COM))
    wait_until(lambda: other.ask("get", key="a.com")["ok"])
    assert client.ask("get", key="a.com", after=[mark, ("another", 0)])["complete"] is False
    assert counted(other, "parked") == 0


def test_a_lost_turn_is_answered_at_once(client, other, publishing):
    """A lookup does not wait for a lost turn; the turns around it are complete."""
    before = publishing.turn(seen(A_COM))
    lost = publishing.lose_turn()
    after = publishing.turn()
    wait_until(lambda: other.ask("health")["data"]["turns"]["start"] == after[1])
    complete = [client.ask("get", key="a.com", after=[mark])["complete"] for mark in (before, lost, after)]
    assert complete == [True, False, True]
    assert client.ask("get", key="a.com", after=[before, after, lost])["complete"] is False
    assert counted(other, "parked") == 0


def test_a_lookup_that_waits_for_a_turn_that_gets_lost_is_answered(client, other, publishing):
    """A waiting lookup ends, not complete, once the next turn shows that its turn was lost."""
    publishing.turn(seen(A_COM))
    client.send("get", key="a.com", after=[publishing.next_mark])
    wait_until(lambda: counted(other, "parked") == 1)
    publishing.lose_turn()
    publishing.turn()
    assert client.receive()["complete"] is False


def test_every_operation_waits(client, other, publishing):
    """Trails and lookups of many keys wait for their marks."""
    mark = publishing.next_mark
    client.send("trail", key="a.com", after=[mark])
    client.send("get_many", keys=["a.com"], after=[mark])
    wait_until(lambda: counted(other, "parked") == 2)
    publishing.turn(seen(A_COM))
    trails, found = client.receive(), client.receive()
    assert (trails["complete"], trails["data"]["trails"][0]["dns_root"]) == (True, "a.com")
    assert (found["complete"], found["data"][0]["dns_root"]) == (True, "a.com")


def test_lookups_of_one_client_are_bounded(served, client, other, publishing):
    """The 65th waiting lookup of a client is refused as overloaded; other clients may wait."""
    mark = publishing.next_mark
    for _ in range(65):
        client.send("get", key="a.com", after=[mark])
    refused = client.receive()
    assert (refused["error"], "64 lookups of this client" in refused["message"]) == ("overloaded", True)
    assert (counted(other, "parked"), counted(other, "overloaded")) == (64, 1)
    with asker(served, zmq.DEALER) as third:
        third.send("get", key="a.com", after=[mark])
        wait_until(lambda: counted(other, "parked") == 65)
        publishing.turn(seen(A_COM))
        assert all(client.receive()["complete"] for _ in range(64))
        assert third.receive()["complete"] is True
    client.send("get", key="a.com", after=[publishing.next_mark])
    wait_until(lambda: counted(other, "parked") == 66)


def test_waiting_lookups_are_bounded(served, other, publishing):
    """The 1,025th waiting lookup is refused as overloaded; the others are answered."""
    mark = publishing.next_mark
    with ExitStack() as stack:
        clients = [stack.enter_context(asker(served, zmq.DEALER)) for _ in range(16)]
        for client in clients * 64:
            client.send("get", key="a.com", after=[mark])
        wait_until(lambda: counted(other, "parked") == 1024)
        refused = other.ask("get", key="a.com", after=[mark])
        assert (refused["error"], "1024 lookups wait" in refused["message"]) == ("overloaded", True)
        assert other.ask("get", key="b.com")["error"] == "data_not_found"
        publishing.turn(seen(A_COM))
        assert all(client.receive()["complete"] for client in clients * 64)
    assert counted(other, "overloaded") == 1
    assert other.ask("get", key="a.com", after=[mark])["complete"] is True


BODY = bytes(1 << 20)
FULL = {
    "one client": ([b"c"] * 2, [b"c"], "2 lookups of this client wait"),
    "all clients": ([b"%d" % (number // 2) for number in range(32)], [b"other"], "32 lookups wait"),
}


@pytest.mark.parametrize(("waiting", "further", "message"), FULL.values(), ids=FULL)
def test_the_bytes_of_waiting_lookups_are_bounded(waiting, further, message):
    """A lookup that exceeds the bytes of its client, or of all, is refused until others have left the queue."""
    turns = TurnFollower(("net_packet_dns",))
    turns.turn(Turn("s", 0, {}, live=False, now=0))
    pending = PendingLookups()
    for client in waiting:
        pending.add(PendingLookup(Served(client, BODY), GetRequest(key="a", after=(("s", 1),)), 1.0))
    refused = PendingLookup(Served(further[0], b"x"), GetRequest(key="a", after=(("s", 1),)), 2.0)
    with pytest.raises(RefusedRequestError, match=message) as error:
        pending.add(refused)
    assert error.value.code == "overloaded"
    assert len(taken(pending, turns, 1.0)) == len(waiting)
    pending.add(refused)
    assert len(pending) == 1


def test_ready_lookups_leave_the_queue():
    """Lookups whose marks are reached, lost or out of patience leave the queue in order; the others stay."""
    turns = TurnFollower(("net_packet_dns",))
    turns.turn(Turn("s", 0, {}, live=False, now=0))
    pending = PendingLookups()
    waits = {"reached": (0, 10.0), "out of patience": (5, 1.0), "waits": (5, 10.0), "at its end": (5, 2.0)}
    for name, (turn, deadline) in waits.items():
        pending.add(PendingLookup(Served(b"c"), GetRequest(key=name, after=(("s", turn),)), deadline))
    ready = [(lookup.request.key, complete) for lookup, complete in taken(pending, turns, 2.0)]
    assert ready == [("reached", True), ("out of patience", False), ("at its end", False)]
    assert len(pending) == 1
    assert not taken(pending, turns, 2.0)


def taken(pending, turns, now):
    """Return the lookups that can be answered by a time."""
    pending.look(turns, SkippedTurns(), now)
    found = []
    while pending.has_ready:
        found.append(pending.take_ready())
    return found


@pytest.mark.parametrize(
    ("marks", "complete"),
    [
        ([], True),
        ([("s", 0)], True),
        ([("s", 1)], None),
        ([("s", 0), ("s", 1)], None),
        ([("x", 0)], False),
        ([("s", _FAR_AHEAD)], None),
        ([("s", _FAR_AHEAD + 1)], False),
        ([("s", 1), ("x", 0)], False),
    ],
)
def test_all_marks_have_to_be_reached(marks, complete):
    """A mark out of reach decides first, then one that is not reached yet."""
    turns = TurnFollower(("net_packet_dns",))
    turns.turn(Turn("s", 0, {}, live=False, now=0))
    assert is_complete(GetRequest(key="a", after=tuple(marks)), turns, SkippedTurns()) is complete
