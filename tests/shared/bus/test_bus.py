"""Tests of dnstrail.bus.contract, dnstrail.bus.served_request."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from functools import partial
from select import select

import pytest
import zmq

from dnstrail.bus import ZmqBus, ends, zeromq
from dnstrail.bus.ends import KEPT, MOST_BYTES, MOST_SENT, SentMessages
from dnstrail.errors import BusError
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
    """Wait for the next message of a receiving end."""
    received = []

    def arrived():
        bus.wait(end, timeout=0.1)
        received.append(end.receive())
        return received[-1] is not None

    wait_until(arrived, "a message")
    return received[-1]


def subscribed(publisher, topic, count=1):
    wait_until(lambda: publisher.subscribers(topic) == count, f"{count} subscriptions to {topic}")


def test_messages_reach_the_subscriber_in_order(bus, address):
    """Messages arrive under their topic, unchanged and in order."""
    publisher = bus.publisher(address, lossless=False)
    subscriber = bus.subscriber([address], ["topic"])
    subscribed(publisher, "topic")
    sent = [("topic", body) for body in (b"", b"1", b"\x00\xff" * 100_000, b"last")]
    assert all(publisher.publish(*message) for message in sent)
    assert [receive(bus, subscriber) for _ in sent] == sent


def test_a_subscriber_receives_its_own_topics_alone(bus, address):
    """A subscriber receives the topics that it subscribed to, and none that only begins like one of them."""
    publisher = bus.publisher(address, lossless=False)
    subscriber = bus.subscriber([address], ["net", "turn"])
    subscriber.subscribe("further")
    subscribed(publisher, "further")
    for topic in ("net", "net_packet_dns", "turnip", "", "further_one", "further", "turn"):
        publisher.publish(topic, b"")
    assert [receive(bus, subscriber)[0] for _ in range(3)] == ["net", "further", "turn"]


def test_a_subscriber_connects_to_several_publishers(bus, address):
    """One subscriber receives from all publishers that it names, whichever of them is bound first."""
    addresses = [address, f"{address}2"]
    subscriber = bus.subscriber(addresses, ["t"])
    for each in addresses:
        publisher = bus.publisher(each, lossless=False)
        subscribed(publisher, "t")
        publisher.publish("t", each.encode())
    assert {receive(bus, subscriber)[1].decode() for _ in addresses} == set(addresses)


def test_a_wait_is_ended_from_another_thread(address):
    """Another thread ends the wait for messages, also the next one; a bus that is closed ignores it."""
    with open_bus() as bus:
        end = bus.puller(address)
        thread = threading.Timer(0.05, bus.wake)
        thread.start()
        assert bus.wait(end, timeout=BOUND)
        thread.join()
        assert not bus.wait(end, timeout=0)
        bus.wake()
        bus.wake()
        assert bus.wait(end, timeout=0)
        assert not bus.wait(end, timeout=0)
    bus.wake()


def test_no_message_is_none(bus, address):
    """A receiving end without a message returns None at once."""
    puller, server = bus.puller(address), bus.server(f"{address}2")
    assert (puller.receive(), server.receive(), bus.subscriber([address], [""]).receive()) == (None, None, None)


def test_subscribers_are_counted_up_and_down(bus, address):
    """The count of a topic rises with each subscription to exactly it, and falls when a subscriber closes."""
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
    """While a subscriber does not read, messages are refused, not dropped; every accepted one arrives later."""
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


def test_closing_a_lossless_publisher_delivers_what_it_accepted(bus, address):
    """Accepted messages arrive, if the subscriber has room, even if the publisher closes before they are read."""
    with open_bus() as other:
        publisher = other.publisher(address, lossless=True)
        subscriber = bus.subscriber([address], ["t"])
        subscribed(publisher, "t")
        for number in range(300):
            wait_until(partial(publisher.publish, "t", b"%d" % number), "room")
    assert [int(receive(bus, subscriber)[1]) for _ in range(300)] == list(range(300))


def test_closing_now_waits_for_no_subscriber(bus, address):
    """A bus that closes with `now` discards what a subscriber has not read, and frees its address."""
    other = ZmqBus()
    publisher = other.publisher(address, lossless=True)
    subscriber = bus.subscriber([address], ["t"])
    subscribed(publisher, "t")
    while publisher.publish("t", bytes(10_000)):
        pass
    assert receive(bus, subscriber) == ("t", bytes(10_000))
    other.close(now=True)
    assert bus.publisher(address, lossless=True).subscribers("x") == 0


def test_a_live_publisher_never_waits(bus, address):
    """A publisher of live events accepts every message, even if a subscriber does not read."""
    publisher = bus.publisher(address, lossless=False)
    subscriber = bus.subscriber([address], ["t"])
    subscribed(publisher, "t")
    assert all(publisher.publish("t", bytes(100)) for _ in range(30_000))
    subscriber.close()


def test_a_publisher_knows_that_a_subscriber_had_no_room(bus, address):
    """A live publisher has overflowed once a subscriber was full; a reader beside it misses nothing."""
    publisher = bus.publisher(address, lossless=False)
    full, reader = bus.subscriber([address], ["t"]), bus.subscriber([address], ["t"])
    subscribed(publisher, "t", 2)
    sent = 0
    while not publisher.overflowed:
        assert publisher.publish("t", b"%d" % sent)
        assert receive(bus, reader) == ("t", b"%d" % sent)
        sent += 1
        assert sent < 100_000
    assert [int(receive(bus, full)[1]) for _ in range(sent - 1)] == list(range(sent - 1))
    assert full.receive() is None


def test_a_publisher_lingers_as_it_is_told(address):
    """A closed publisher gives up on a subscriber that does not read once its time is over."""
    publishing = ZmqBus()
    publisher = publishing.publisher(address, lossless=True)
    with open_bus() as bus:
        subscriber = bus.subscriber([address], ["t"])
        subscribed(publisher, "t")
        while publisher.publish("t", bytes(10_000)):
            pass
        assert receive(bus, subscriber) == ("t", bytes(10_000))
        publisher.linger(0.01)
        publishing.close()


def test_closing_waits_for_no_subscriber_that_has_left(address):
    """A lossless publisher closes at once, also if a subscriber has left before its subscriptions were read."""
    with open_bus() as bus:
        publisher = bus.publisher(address, lossless=True)
        with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
            for topic in range(5):
                subscriber.subscribe(str(topic))
            subscriber.connect(address)
            assert publisher.socket.poll(BOUND * 1000)
        time.sleep(0.2)  # the publisher has received the end of the connection
        began = time.monotonic()
    assert time.monotonic() - began < BOUND


def test_a_closed_lossless_publisher_waits_for_a_bounded_time(address, monkeypatch):
    """Libzmq waits for a full subscriber that subscribes to more after the end of the publisher, and then leaves."""
    monkeypatch.setattr(zeromq, "LINGER_LOSSLESS", 1000)
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.setsockopt(zmq.RCVHWM, 1)
        subscriber.subscribe("t")
        subscriber.connect(address)

        def leave():
            wait_until(lambda: publisher.socket.closed, "the end of the publisher")
            subscriber.subscribe("another")
            time.sleep(0.6)  # the publisher has received it
            subscriber.close()

        with open_bus() as bus:
            publisher = bus.publisher(address, lossless=True)
            subscribed(publisher, "t")
            while publisher.publish("t", bytes(10_000)):
                pass
            leaving = threading.Timer(0.3, leave)
            leaving.start()
            began = time.monotonic()
        assert 1 <= time.monotonic() - began < BOUND
        leaving.join()


def test_closing_reads_subscriptions_for_a_bounded_time(address):
    """A subscriber that does not stop to subscribe delays the end of a publisher by a moment."""
    with open_bus() as bus, zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        publisher = bus.publisher(address, lossless=True)
        subscriber.connect(address)
        left = threading.Event()

        def flood():
            while not left.is_set():
                subscriber.subscribe("x")

        flooding = threading.Thread(target=flood)
        flooding.start()
        assert publisher.socket.poll(BOUND * 1000)
        began = time.monotonic()
        bus.close()
        left.set()
        flooding.join()
    assert time.monotonic() - began < BOUND


def test_subscriptions_change_while_it_listens(bus, address):
    """A subscriber receives a further topic from its subscription until it cancels it."""
    publisher = bus.publisher(address, lossless=False)
    subscriber = bus.subscriber([address], ["t"])
    subscriber.subscribe("further")
    subscribed(publisher, "further")
    publisher.publish("further", b"1")
    assert receive(bus, subscriber) == ("further", b"1")
    subscriber.unsubscribe("further")
    subscribed(publisher, "further", 0)
    publisher.publish("further", b"2")
    publisher.publish("t", b"3")
    assert receive(bus, subscriber) == ("t", b"3")


def test_a_publisher_without_subscribers_accepts_all(bus, address):
    """Without subscribers no message has to wait."""
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
    """A plain ZeroMQ client receives its reply behind the frames that it put before its request."""
    with answering(address, bytes.upper), asker(address, kind) as client:
        client.socket.send_multipart(sent)
        assert client.socket.recv_multipart() == expected


def test_each_client_receives_its_own_reply(address):
    """Each of several clients receives its own reply, in whichever order the server replies."""
    with open_bus() as bus, asker(address, zmq.DEALER) as one, asker(address, zmq.DEALER) as two:
        server = bus.server(address)
        one.socket.send(b"one")
        two.socket.send(b"two")
        served = sorted((receive(bus, server) for _ in range(2)), key=lambda request: request.body)
        for request in reversed(served):
            request.reply(request.body * 2)
        assert (one.socket.recv(), two.socket.recv()) == (b"oneone", b"twotwo")


def test_a_reply_to_a_client_that_has_left_is_harmless(address):
    """A reply to a client that has left raises nothing, and the next client is served."""
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
    """A requester receives the reply of the server."""
    with answering(address, bytes.upper):
        assert bus.requester(address).request(b"ask", BOUND) == b"ASK"


def test_a_request_without_a_reply_is_none(bus, address):
    """Without a server, or with a silent one, every request returns None."""
    requester = bus.requester(address)
    assert [requester.request(b"x", 0.01) for _ in range(3)] == [None] * 3
    with answering(address, lambda _body: None):
        assert [requester.request(b"x", 0.01) for _ in range(3)] == [None] * 3


def answer_too_long_once(address, served):
    """Run a server whose first reply is longer than a requester takes; it repeats the others."""

    def target(_bus, stop):
        with zmq.Context() as context, context.socket(zmq.ROUTER) as server:
            server.linger = 0
            server.bind(address)
            while not stop.is_set():
                if server.poll(20):
                    *route, body = server.recv_multipart()
                    served.append(body)
                    server.send_multipart([*route, bytes(zeromq._MAX_MESSAGE + 1) if len(served) == 1 else body])

    return running(target)


def test_a_requester_asks_again_after_a_reply_that_was_too_long(bus, address, monkeypatch):
    """Libzmq leaves a server for good that sent too much: the requester connects to it anew."""
    monkeypatch.setattr(ends, "RENEWED", 0.5)
    served = []
    with answer_too_long_once(address, served):
        requester = bus.requester(address)
        wait_until(lambda: requester.request(b"ask", 0.3) == b"ask", "a reply")


def test_a_requester_that_does_not_wait_asks_again_after_a_reply_that_was_too_long(bus, address, monkeypatch):
    """The same for requests whose replies are not waited for."""
    monkeypatch.setattr(ends, "RENEWED", 0.5)
    served = []
    with answer_too_long_once(address, served):
        requester = bus.requester(address)

        def answered():
            requester.send(b"ask")
            bus.wait(requester, timeout=0.3)
            return requester.reply() == b"ask"

        wait_until(answered, "a reply")


def test_a_requester_without_a_server_keeps_its_socket_for_a_while(bus, address):
    """A time-out that is shorter than a handshake does not end the connection."""
    requester = bus.requester(address)
    socket = requester.socket
    assert [requester.request(b"x", 0.01) for _ in range(3)] == [None] * 3
    assert requester.socket is socket


def test_a_late_reply_is_never_taken_for_the_next_one(address):
    """After a time-out the next request receives its own reply, even if the late one arrives first."""
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
    """The messages of several pushers arrive at the puller, in the order in which each pusher sent them."""
    puller = bus.puller(address)
    one, two = bus.pusher(address), bus.pusher(address)
    for number in range(3):
        wait_until(partial(one.push, b"a%d" % number), "room")
        wait_until(partial(two.push, b"b%d" % number), "room")
    received = [receive(bus, puller) for _ in range(6)]
    assert [body for body in received if body[:1] == b"a"] == [b"a0", b"a1", b"a2"]
    assert [body for body in received if body[:1] == b"b"] == [b"b0", b"b1", b"b2"]


def test_the_next_receiver_gets_what_the_lost_one_may_not_have_handled(bus, address):
    """A message that a receiver took and left unhandled is sent again, once, to the next receiver."""
    pusher = bus.pusher(address)
    with open_bus() as first:
        puller = first.puller(address)
        wait_until(partial(pusher.push, b"a"), "room")
        assert receive(first, puller) == b"a"
    assert pusher.push(b"b")
    with open_bus() as second:
        puller = second.puller(address)
        received = []

        def has_all():
            bus.wait(timeout=0)
            received.extend(filter(None, [puller.receive()]))
            return {b"a", b"b"} <= {*received}

        wait_until(has_all, "the messages")
        assert received.count(b"a") == 1


def test_messages_are_kept_for_a_while_within_bounds():
    """What is sent again is bounded in time, number and bytes; the newest messages stay."""
    sent = SentMessages()
    for number in range(MOST_SENT + 5):
        sent.add(b"%d" % number, 0.0)
    assert len([*sent.since(1.0)]) == MOST_SENT
    for _ in range(9):
        sent.add(bytes(MOST_BYTES // 8), 2.0)
    assert sum(map(len, sent.since(3.0))) <= MOST_BYTES
    assert [*sent.since(2.0 + KEPT)] == []


def test_a_pusher_knows_a_puller_that_is_there_at_once(bus, address, monkeypatch):
    """A pusher is connected also if the handshake is over before the connection is set up."""
    puller, connect = bus.puller(address), ZmqBus._connect

    def connect_wholly(of, socket, addresses):
        connect(of, socket, addresses)
        socket.send(b"first")
        receive(bus, puller)

    monkeypatch.setattr(ZmqBus, "_connect", connect_wholly)
    pusher = bus.pusher(address)
    assert pusher.connected
    assert (pusher.push(b"x"), pusher.waiting) == (True, 0)


def test_a_pusher_that_cannot_connect_leaves_nothing_open():
    """A pusher to a path that is too long is refused, and its bus closes."""
    with open_bus() as bus, pytest.raises(BusError):
        bus.pusher(f"ipc:///{'x' * 200}")


def test_a_pusher_knows_how_many_messages_wait_for_a_puller(bus, address):
    """Messages wait until a puller is there, and again once it has left."""
    pusher = bus.pusher(address)
    assert all(pusher.push(b"x") for _ in range(3))
    assert pusher.waiting == 3
    with open_bus() as other:
        other.puller(address)
        wait_until(lambda: pusher.connected, "the puller")
        assert (pusher.push(b"x"), pusher.waiting) == (True, 0)
    wait_until(lambda: not pusher.connected, "the end of the puller")
    assert (pusher.push(b"x"), pusher.waiting) == (True, 1)
    pusher.socket.linger = 0


def test_a_push_without_a_receiver_is_refused(bus, address):
    """Without a receiver a finding is refused once the queue is full."""
    pusher = bus.pusher(address)
    assert any(not pusher.push(b"x") for _ in range(10_000))
    puller = bus.puller(address)
    assert receive(bus, puller) == b"x"


def test_waiting_ends_with_the_first_message(bus, address):
    """Waiting for several ends returns once a message arrives at one of them."""
    puller, server = bus.puller(address), bus.server(f"{address}2")
    with asker(f"{address}2") as client:
        client.socket.send(b"x")
        bus.wait(puller, server, timeout=BOUND)
        assert server.receive().body == b"x"


def test_waiting_for_no_end_takes_its_time(bus):
    """Without an end nothing can arrive: the wait ends with its time, and a loop around it does not spin."""
    began = time.monotonic()
    bus.wait(timeout=0.05)
    assert time.monotonic() - began >= 0.05


def test_messages_are_taken_into_memory_while_others_are_handled(bus, address):
    """A subscriber that handles what it has taken looks at its socket again before it has handled all of it."""
    publisher, subscriber = bus.publisher(address, lossless=True), bus.subscriber([address], ["a"])
    subscribed(publisher, "a")
    for _ in range(40):
        publisher.publish("a", b"x")
    wait_until(lambda: subscriber.fill() or subscriber.held == 40, "all messages in memory")
    for _ in range(20):
        publisher.publish("a", b"x")
    wait_until(lambda: select([subscriber.descriptor], [], [], 0)[0], "another message")
    for _ in range(30):
        subscriber.receive()
    assert subscriber.held > 10


def test_waiting_ends_at_once_while_a_subscriber_holds_a_message(bus, address):
    """A message that a subscriber has taken from its socket, with one before it, needs no further arrival."""
    publisher, subscriber = bus.publisher(address, lossless=True), bus.subscriber([address], ["a"])
    subscribed(publisher, "a")
    while not subscriber.held:
        publisher.publish("a", b"one")
        publisher.publish("a", b"two")
        receive(bus, subscriber)
    while select([subscriber.descriptor], [], [], 0.1)[0]:  # nothing else may end the wait
        subscriber.fill()
    began = time.monotonic()
    bus.wait(subscriber, timeout=BOUND)
    assert time.monotonic() - began < BOUND / 2


def test_requests_that_the_server_does_not_read_are_bounded(address):
    """A client whose requests stay unread has to wait after some of them: they cost the server bounded memory."""
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
        assert 16 <= sent <= 64
        assert len(receive(bus, server).body) == 100_000


FAULTS = {
    "16 frames": ([b"x"] * 16, b"x", ""),
    "17 frames": ([b"x"] * 17, b"", "17 frames; 16 at most"),
    "16 frames of a REQ client": ([b"", *[b"x"] * 16], b"x", ""),
    "17 frames of a REQ client": ([b"", *[b"x"] * 17], b"", "17 frames; 16 at most"),
    "4,096 bytes before the request": ([bytes(4096), b"x"], b"x", ""),
    "4,097 bytes before the request": ([bytes(4096), b"-", b"x"], b"", "4097 bytes before the request; 4096 at most"),
}


@pytest.mark.parametrize(("frames", "body", "fault"), FAULTS.values(), ids=FAULTS)
def test_the_frames_of_a_request_are_bounded(bus, address, frames, body, fault):
    """A request with too many frames, or too much before it, arrives as a fault without a body."""
    server = bus.server(address)
    with asker(address, zmq.DEALER) as client:
        client.socket.send_multipart(frames)
        served = receive(bus, server)
        assert (served.body, served.fault) == (body, fault)
        assert served.reply(b"reply")
        envelope = [frame for frame in frames[:1] if not frame] if fault else frames[:-1]
        assert client.socket.recv_multipart() == [*envelope, b"reply"]


@pytest.mark.parametrize("correlate", [0, 1])
def test_a_req_client_receives_the_reply_to_a_faulty_request(bus, address, correlate):
    """The reply follows what the REQ socket put before the request."""
    server = bus.server(address)
    with asker(address) as client:
        client.socket.setsockopt(zmq.REQ_CORRELATE, correlate)
        client.socket.send_multipart([b"x"] * 20)
        assert receive(bus, server).reply(b"refused")
        assert client.socket.recv_multipart() == [b"refused"]


def test_a_request_beyond_2_mib_disconnects_its_client(address):
    """The server neither reads nor answers such a request; the next client is served."""
    with answering(address, bytes.upper):
        with asker(address, zmq.DEALER) as large, large.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            large.socket.send(bytes((2 << 20) + 1))
            assert monitor.poll(BOUND * 1000)
            large.socket.disable_monitor()
        with asker(address) as client:
            client.socket.send(b"x")
            assert client.socket.recv() == b"X"


def test_a_bus_waits_only_for_its_own_ends(bus, address):
    """Waiting for an end of another bus is an error, not a wait that never ends."""
    with open_bus() as other, pytest.raises(KeyError):
        bus.wait(other.puller(address), timeout=BOUND)


def test_a_request_can_be_sent_without_waiting(bus, address):
    """A reply is read when it has arrived, and the server knows the user of the connection from the kernel."""
    server, requester = bus.server(address), bus.requester(address)
    assert requester.reply() is None
    assert requester.send(b"first")
    served = receive(bus, server)
    assert (served.body, served.user) == (b"first", os.geteuid())
    assert requester.reply() is None
    served.reply(b"reply")
    assert receive_reply(requester) == b"reply"


def receive_reply(requester):
    """Wait for the reply to the last request."""
    replies = []

    def arrived():
        replies.append(requester.reply())
        return replies[-1] is not None

    wait_until(arrived, "a reply")
    return replies[-1]


def test_a_request_replaces_an_unanswered_one(bus, address):
    """After a second request the late reply to the first is dropped."""
    server, requester = bus.server(address), bus.requester(address)
    requester.send(b"first")
    first = receive(bus, server)
    requester.send(b"second")
    second = receive(bus, server)
    first.reply(b"late")
    second.reply(b"in time")
    assert receive_reply(requester) == b"in time"
