from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial

import pytest
import zmq

from dnstrail.bus import ZmqBus
from live.workers import BOUND, answering, asker, open_bus, running, short_folder, wait_until


@pytest.fixture
def address():
    with short_folder() as folder:
        yield f"ipc://{folder}/x.sock"


@pytest.fixture
def bus():
    with open_bus() as bus:
        yield bus


def receive(bus, end):
    """The next message of a receiving end, waited for."""
    received = []

    def came():
        bus.wait(end, timeout=0.1)
        received.append(end.receive())
        return received[-1] is not None

    wait_until(came, "a message")
    return received[-1]


def subscribed(publisher, topic, count=1):
    wait_until(lambda: publisher.subscribers(topic) == count, f"{count} subscriptions to {topic}")


def test_messages_reach_the_subscriber_in_order(bus, address):
    """What is published arrives under its topic, byte by byte, in the order in which it was sent."""
    publisher = bus.publisher(address, lossless=False)
    subscriber = bus.subscriber([address], ["topic"])
    subscribed(publisher, "topic")
    sent = [("topic", body) for body in (b"", b"1", b"\x00\xff" * 100_000, b"last")]
    assert all(publisher.publish(*message) for message in sent)
    assert [receive(bus, subscriber) for _ in sent] == sent


def test_topics_select_by_prefix(bus, address):
    """A subscriber receives the topics that start with one of its own, and no others."""
    publisher = bus.publisher(address, lossless=False)
    subscriber = bus.subscriber([address], ["net_", "turn"])
    subscribed(publisher, "turn")
    for topic in ("net", "net_packet_dns", "sched_process_exec", "turn", "turnip", "", "tur", "end of net_", "turn"):
        publisher.publish(topic, b"")
    assert [receive(bus, subscriber)[0] for _ in range(4)] == ["net_packet_dns", "turn", "turnip", "turn"]


def test_a_subscriber_connects_to_several_publishers(bus, address):
    """One subscriber receives from all publishers that it names, whichever of them is bound first."""
    addresses = [address, f"{address}2"]
    subscriber = bus.subscriber(addresses, ["t"])
    for each in addresses:
        publisher = bus.publisher(each, lossless=False)
        subscribed(publisher, "t")
        publisher.publish("t", each.encode())
    assert {receive(bus, subscriber)[1].decode() for _ in addresses} == set(addresses)


def test_nothing_there_is_none(bus, address):
    """A receiving end without a message says None at once."""
    puller, server = bus.puller(address), bus.server(f"{address}2")
    assert (puller.receive(), server.receive(), bus.subscriber([address], [""]).receive()) == (None, None, None)


def test_subscribers_are_counted_up_and_down(bus, address):
    """The count of a topic rises with each subscription to just it and falls when a subscriber closes."""
    publisher = bus.publisher(address, lossless=False)
    assert publisher.subscribers("turn") == 0
    first = bus.subscriber([address], ["turn", "tu"])
    subscribed(publisher, "turn", 1)
    second = bus.subscriber([address], ["turn"])
    subscribed(publisher, "turn", 2)
    subscribed(publisher, "tu", 1)
    first.close()
    subscribed(publisher, "turn", 1)
    subscribed(publisher, "tu", 0)
    second.close()
    subscribed(publisher, "turn", 0)


def test_a_lossless_publisher_gives_back_what_it_cannot_send(bus, address):
    """While a subscriber does not read, messages are refused, not dropped; all that was taken arrives later."""
    publisher = bus.publisher(address, lossless=True)
    subscriber = bus.subscriber([address], ["t"])
    subscribed(publisher, "t")
    taken = 0
    while publisher.publish("t", b"%d" % taken):
        taken += 1
        assert taken < 1_000_000
    assert [int(receive(bus, subscriber)[1]) for _ in range(taken)] == list(range(taken))
    wait_until(lambda: publisher.publish("t", b"again"), "room")
    assert receive(bus, subscriber) == ("t", b"again")
    assert subscriber.receive() is None


def test_closing_a_lossless_publisher_delivers_what_it_took(bus, address):
    """What was taken arrives though the publisher was closed before it was read."""
    with open_bus() as other:
        publisher = other.publisher(address, lossless=True)
        subscriber = bus.subscriber([address], ["t"])
        subscribed(publisher, "t")
        taken = sum(publisher.publish("t", b"%d" % number) for number in range(3000))
    assert [int(receive(bus, subscriber)[1]) for _ in range(taken)] == list(range(3000))


def test_closing_now_waits_for_nobody(bus, address):
    """A bus that is closed now lets go of what a subscriber that does not read has not taken, and of its address."""
    other = ZmqBus()
    publisher = other.publisher(address, lossless=True)
    subscriber = bus.subscriber([address], ["t"])
    subscribed(publisher, "t")
    while publisher.publish("t", bytes(10_000)):
        pass
    other.close(now=True)
    assert subscriber.receive() == ("t", bytes(10_000))
    assert bus.publisher(address, lossless=True).subscribers("x") == 0


def test_a_live_publisher_never_waits(bus, address):
    """A publisher of live events takes every message, though a subscriber does not read."""
    publisher = bus.publisher(address, lossless=False)
    subscriber = bus.subscriber([address], ["t"])
    subscribed(publisher, "t")
    assert all(publisher.publish("t", bytes(100)) for _ in range(30_000))
    subscriber.close()


def test_a_publisher_without_subscribers_takes_all(bus, address):
    """With nobody there, nothing has to wait."""
    publisher = bus.publisher(address, lossless=True)
    assert all(publisher.publish("t", b"") for _ in range(10_000))


@pytest.mark.parametrize(
    ("kind", "sent", "expected"),
    [
        (zmq.REQ, [b"ask"], [b"ASK"]),
        (zmq.DEALER, [b"", b"ask"], [b"", b"ASK"]),
        (zmq.DEALER, [b"ask"], [b"ASK"]),
        (zmq.DEALER, [b"id", b"", b"ask"], [b"id", b"", b"ASK"]),
        (zmq.DEALER, [b""], [b""]),
    ],
    ids=["REQ", "DEALER with a delimiter", "DEALER without", "DEALER with an id", "an empty frame alone"],
)
def test_plain_sockets_are_served(address, kind, sent, expected):
    """A plain ZeroMQ client gets its reply behind the same frames that it put before its request."""
    with answering(address, bytes.upper), asker(address, kind) as client:
        client.socket.send_multipart(sent)
        assert client.socket.recv_multipart() == expected


def test_each_client_gets_its_own_answer(address):
    """Requests of several clients at once are told apart, in whichever order they are answered."""
    with open_bus() as bus, asker(address, zmq.DEALER) as one, asker(address, zmq.DEALER) as two:
        server = bus.server(address)
        one.socket.send(b"one")
        two.socket.send(b"two")
        served = sorted((receive(bus, server) for _ in range(2)), key=lambda request: request.body)
        for request in reversed(served):
            request.reply(request.body * 2)
        assert (one.socket.recv(), two.socket.recv()) == (b"oneone", b"twotwo")


def test_a_reply_to_a_client_that_has_gone_is_harmless(address):
    """Replying to nobody raises nothing, and the next client is served."""
    with open_bus() as bus:
        server = bus.server(address)
        with asker(address) as gone:
            gone.socket.send(b"x")
            request = receive(bus, server)
        request.reply(b"too late")
        with asker(address) as client:
            client.socket.send(b"y")
            receive(bus, server).reply(b"in time")
            assert client.socket.recv() == b"in time"


def test_a_request_is_answered(bus, address):
    """A requester gets the reply of the server."""
    with answering(address, bytes.upper):
        assert bus.requester(address).request(b"ask", BOUND) == b"ASK"


def test_a_request_that_nobody_answers_is_none(bus, address):
    """Without a server, and with one that is silent, a request ends with None, as often as it is made."""
    requester = bus.requester(address)
    assert [requester.request(b"x", 0.01) for _ in range(3)] == [None] * 3
    with answering(address, lambda _body: None):
        assert [requester.request(b"x", 0.01) for _ in range(3)] == [None] * 3


def test_a_late_answer_is_never_taken_for_the_next_ones(address):
    """After a time-out the next request gets its own reply, though that of the first one arrives before it."""
    asked, late = [], threading.Event()
    results = []

    def ask(bus: ZmqBus, _stop: threading.Event) -> None:
        requester = bus.requester(address)
        results.append(requester.request(b"first", 0.2))
        late.set()
        results.append(requester.request(b"second", BOUND))
        results.append(requester.request(b"third", BOUND))

    with open_bus() as bus:
        server = bus.server(address)
        with running(ask):
            asked.append(receive(bus, server))
            assert late.wait(BOUND)
            asked.append(receive(bus, server))
            for request in asked:
                request.reply(b"for " + request.body)
            third = receive(bus, server)
            asked[0].reply(b"again for first")
            third.reply(b"for third")
            wait_until(lambda: len(results) == 3)
    assert results == [None, b"for second", b"for third"]


def test_findings_are_pushed(bus, address):
    """What several pushers send arrives at the one puller, each in its order."""
    puller = bus.puller(address)
    one, two = bus.pusher(address), bus.pusher(address)
    for number in range(3):
        wait_until(partial(one.push, b"a%d" % number), "room")
        wait_until(partial(two.push, b"b%d" % number), "room")
    came = [receive(bus, puller) for _ in range(6)]
    assert [body for body in came if body[:1] == b"a"] == [b"a0", b"a1", b"a2"]
    assert [body for body in came if body[:1] == b"b"] == [b"b0", b"b1", b"b2"]


def test_a_push_that_nobody_takes_is_given_back(bus, address):
    """A finding is not taken once the queue to a receiver that is not there is full."""
    pusher = bus.pusher(address)
    assert any(not pusher.push(b"x") for _ in range(10_000))
    puller = bus.puller(address)
    assert receive(bus, puller) == b"x"


def test_waiting_ends_with_the_first_message(bus, address):
    """Waiting for several ends returns once one of them has something."""
    puller, server = bus.puller(address), bus.server(f"{address}2")
    with asker(f"{address}2") as client:
        client.socket.send(b"x")
        bus.wait(puller, server, timeout=BOUND)
        assert server.receive().body == b"x"


def test_requests_that_the_server_does_not_read_are_bounded(address):
    """A client whose requests stay unread has to wait after some tens of them: they cost the server bounded memory."""
    with open_bus() as bus, asker(address, zmq.DEALER) as client:
        server = bus.server(address)
        client.socket.sndhwm, client.socket.sndtimeo = 1, 500
        client.socket.disconnect(address)
        client.socket.connect(address)
        sent = 0
        with suppress(zmq.Again):
            while sent < 2000:
                client.socket.send(bytes(100_000))
                sent += 1
        assert 64 <= sent <= 128
        assert len(receive(bus, server).body) == 100_000


@pytest.mark.parametrize(("frames", "served"), [(15, True), (16, False)])
def test_a_request_has_a_bounded_number_of_frames(address, frames, served):
    """A request of 16 frames, with the identity of its client, is served; a longer one is dropped."""
    with answering(address, bytes.upper), asker(address, zmq.DEALER) as client:
        client.socket.send_multipart([b"x"] * frames)
        client.socket.send(b"next")
        replies = [client.socket.recv_multipart()[-1] for _ in range(1 + served)]
    assert replies == [b"X", b"NEXT"][not served :]


def test_a_request_beyond_16_mib_disconnects_its_client(address):
    """The server neither reads nor answers such a request; the next client is served."""
    with answering(address, bytes.upper):
        with asker(address, zmq.DEALER) as large, large.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            large.socket.send(bytes((16 << 20) + 1))
            assert monitor.poll(BOUND * 1000)
            large.socket.disable_monitor()
        with asker(address) as client:
            client.socket.send(b"x")
            assert client.socket.recv() == b"X"


def test_a_bus_waits_only_for_its_own_ends(bus, address):
    """Waiting for an end of another bus is an error, not a wait that never ends."""
    with open_bus() as other, pytest.raises(KeyError):
        bus.wait(other.puller(address), timeout=BOUND)
