"""The limits of the sockets: how much an unread queue holds, and how long a message may be."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
import zmq

from dnstrail.bus import ends, subscriber_end, zeromq
from dnstrail.bus.ipc import socket_path
from dnstrail.bus.subscriptions import _MOST_UNSETTLED, MOST_CHANGES
from live.raw_peer import GREETING, connection, finish_handshake, frame, peer, ready
from live.workers import BOUND, asker, open_bus, short_folder, wait_until

TOPIC = "events"
LARGEST = bytes(128 << 10)  # a batch
TOO_LONG = zeromq._MAX_MESSAGE + 1
LONG = bytes(4 << 20)  # a reply


@pytest.fixture
def address():
    """Yield an address in a folder of its own."""
    with short_folder() as folder:
        yield f"ipc://{folder}/end.sock"


def test_a_live_publisher_holds_bounded_bytes_for_a_subscriber_that_does_not_read(address):
    """The publisher keeps 100 MiB of the largest batches for such a subscriber, and drops the rest."""
    with open_bus() as bus, zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        publisher = bus.publisher(address, lossless=False)
        subscriber.setsockopt(zmq.RCVHWM, 1)
        subscriber.subscribe(TOPIC)
        subscriber.connect(address)
        wait_until(lambda: publisher.subscribers(TOPIC) == 1, "the subscription")
        for _ in range(3 * zeromq._UNREAD_EVENTS):
            publisher.publish(TOPIC, LARGEST)
        received = 0
        while subscriber.poll(BOUND * 1000 if received < 100 << 20 else 200):
            received += len(subscriber.recv_multipart()[-1])
    assert 100 << 20 <= received < 110 << 20


def test_a_subscriber_that_lags_holds_bounded_bytes(address, monkeypatch):
    """A subscriber takes messages from its socket up to a number of bytes; none is lost, and their order stays."""
    monkeypatch.setattr(subscriber_end, "MOST_RECEIVED", 4 * len(LARGEST))
    with open_bus() as bus:
        publisher = bus.publisher(address, lossless=True)
        subscriber = bus.subscriber([address], [TOPIC])
        wait_until(lambda: publisher.subscribers(TOPIC) == 1, "the subscription")
        for number in range(12):
            assert publisher.publish(TOPIC, bytes([number]) + LARGEST)
        bus.wait(subscriber, timeout=BOUND)
        received = []
        while len(received) < 12:
            bus.wait(subscriber, timeout=BOUND)
            if (message := subscriber.receive()) is not None:
                received.append(message[1][0])
                assert subscriber.size <= 5 * len(LARGEST)
    assert received == [*range(12)]


def test_a_subscriber_receives_no_message_beyond_the_limit(address):
    """A message that is too long does not arrive: its sender is disconnected."""
    with open_bus() as bus, zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.bind(address)
        subscriber = bus.subscriber([address], [TOPIC])
        assert publisher.recv() == b"\x01" + TOPIC.encode()
        publisher.send_multipart([TOPIC.encode(), bytes(TOO_LONG)])
        assert publisher.poll(BOUND * 1000)
        assert publisher.recv() == b"\x00" + TOPIC.encode()  # the subscription ends with the connection
        assert subscriber.receive() is None


def test_a_server_receives_no_request_beyond_the_limit(address):
    """A request that is too long does not arrive, and the next client is served."""
    with open_bus() as bus, asker(address, zmq.DEALER) as hostile, asker(address, zmq.DEALER) as honest:
        server = bus.server(address)
        hostile.socket.send(bytes(TOO_LONG))
        honest.socket.send(b"short")
        requests = []

        def arrives() -> bool:
            bus.wait(server, timeout=0.05)
            while (request := server.receive()) is not None:
                requests.append(len(request.body))
            return len(b"short") in requests

        wait_until(arrives, "the short request")
        hostile.socket.send(b"again")
        wait_until(lambda: arrives() and requests.count(len(b"again")) > 1, "the next request of the same client")
    assert TOO_LONG not in requests


def test_a_subscriber_with_too_many_subscriptions_is_disconnected(address):
    """One message beyond the bound ends the connection with all of its subscriptions; another subscriber stays."""
    with open_bus() as bus, zmq.Context() as context, context.socket(zmq.SUB) as hostile:
        publisher = bus.publisher(address, lossless=False)
        honest = bus.subscriber([address], [TOPIC])
        hostile.connect(address)
        hostile.setsockopt(zmq.RECONNECT_STOP, zmq.RECONNECT_STOP_CONN_REFUSED)
        with hostile.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
            hostile.subscribe("first")
            wait_until(lambda: publisher.subscribers("first"), "the first subscription, from which they count")
            for number in range(MOST_CHANGES):
                hostile.subscribe(f"{TOPIC} {number}")
            last = f"{TOPIC} {MOST_CHANGES - 1}"
            wait_until(lambda: publisher.subscribers(last) == 1, "the subscriptions within the bound")
            assert publisher.disconnected == 0
            hostile.subscribe(b"one more")
            wait_until(lambda: publisher.subscribers(last) == 0, "the end of the connection")
            assert monitor.poll(BOUND * 1000)
            hostile.disable_monitor()
        assert (publisher.disconnected, publisher.subscribers(TOPIC)) == (1, 1)
        assert publisher.publish(TOPIC, LARGEST)
        bus.wait(honest, timeout=BOUND)
        assert honest.receive() == (TOPIC, LARGEST)


def test_messages_of_those_who_left_count_for_nobody_else(address):
    """Subscriptions that are read when their connections have ended do not count for a later one with a descriptor."""
    path = socket_path(address)
    with open_bus() as bus:
        publisher = bus.publisher(address, lossless=False)
        for _ in range(MOST_CHANGES + 10):
            with peer(path, b"SUB") as hostile:
                hostile.sendall(frame(b"\x01hostile"))
                hostile.shutdown(socket.SHUT_WR)
                while hostile.recv(4096):
                    pass
        with peer(path, b"SUB") as honest:
            honest.sendall(frame(b"\x01" + TOPIC.encode()))
            wait_until(lambda: publisher.subscribers(TOPIC) or publisher.disconnected, "the subscription")
            assert publisher.disconnected == 0


def test_a_subscriber_whose_flood_is_never_read_to_its_end_is_disconnected(address, monkeypatch):
    """The bound on messages holds, too, while others of those who left may be among them."""
    monkeypatch.setattr(ends, "CHANGES_AT_ONCE", 1)
    with open_bus() as bus:
        publisher = bus.publisher(address, lossless=False)
        with peer(socket_path(address), b"SUB") as hostile:
            hostile.sendall(frame(b"\x01t") * (_MOST_UNSETTLED + 1))

            def disconnected():
                for _ in range(100):
                    publisher.note_changes()
                return publisher.disconnected

            wait_until(disconnected, "the end of the connection")


def test_a_publisher_receives_no_long_subscription(address):
    """A subscription that is too long ends its connection, and does not count."""
    longest = "x" * (zeromq._MAX_SUBSCRIPTION - len(b"\x09SUBSCRIBE"))  # ZMTP 3.1 puts this before it
    with open_bus() as bus, zmq.Context() as context, context.socket(zmq.SUB) as hostile:
        publisher = bus.publisher(address, lossless=False)
        hostile.connect(address)
        hostile.subscribe(longest)
        wait_until(lambda: publisher.subscribers(longest) == 1, "the longest subscription")
        hostile.subscribe(f"{longest}x")
        wait_until(lambda: publisher.subscribers(longest) == 0, "the end of the connection")


def test_a_client_that_reads_no_reply_costs_bounded_memory(address):
    """Long replies are refused once too many bytes are unread, short replies are not, and another client is served."""
    with open_bus() as bus, asker(address, zmq.DEALER) as deaf, asker(address, zmq.DEALER) as honest:
        server = bus.server(address)
        deaf.socket.rcvhwm = 1
        deaf.socket.disconnect(address)
        deaf.socket.connect(address)
        request = request_of(bus, server, deaf)
        sent = 0
        while request.reply(LONG):
            sent += 1
            assert sent < 100
        assert sent * len(LONG) <= ends.MOST_UNREAD_OF_CLIENT + 4 * len(LONG)  # some are in the sockets
        assert request.reply(b"short")
        assert request_of(bus, server, honest).reply(LONG)
        assert honest.socket.recv() == LONG
        while deaf.socket.recv() != b"short":
            pass
        wait_until(lambda: request.reply(LONG), "room again")


def test_short_replies_that_a_client_does_not_read_are_dropped_beyond_a_bound(address):
    """Of the short replies that a client does not read some hundred wait for it; the others are dropped."""
    short = bytes(ends.LONG)
    with open_bus() as bus, asker(address, zmq.DEALER) as deaf:
        server = bus.server(address)
        deaf.socket.rcvhwm = 1
        deaf.socket.disconnect(address)
        deaf.socket.connect(address)
        request = request_of(bus, server, deaf)
        for _ in range(3 * zeromq._UNREAD_REPLIES):
            assert request.reply(short)
        received = 0
        while deaf.socket.poll(BOUND * 1000 if received < zeromq._UNREAD_REPLIES else 500):
            assert deaf.socket.recv() == short
            received += 1
        assert zeromq._UNREAD_REPLIES <= received < 1.5 * zeromq._UNREAD_REPLIES  # some were in the sockets


def test_clients_that_read_no_replies_cost_bounded_memory(address):
    """Unread replies are bounded in all; a client with nothing unread still receives a short reply."""
    with open_bus() as bus, ExitStack() as stack:
        server = bus.server(address)
        sent = 0
        for _ in range(2 * ends.MOST_UNREAD // ends.MOST_UNREAD_OF_CLIENT):
            deaf = stack.enter_context(asker(address, zmq.DEALER))
            deaf.socket.rcvhwm = 1
            deaf.socket.disconnect(address)
            deaf.socket.connect(address)
            request = request_of(bus, server, deaf)
            while request.reply(LONG):
                sent += len(LONG)
            assert sent < 2 * ends.MOST_UNREAD
            assert request.reply(b"short")


def request_of(bus, server, client):
    """Send a request of a client, and return it as the server receives it."""
    client.socket.send(b"request")
    bus.wait(server, timeout=BOUND)
    return server.receive()


def test_a_client_whose_handshake_is_late_is_served(address, monkeypatch):
    """A server waits longer for a greeting than other sockets: a plain REQ socket repeats no request that it lost."""
    monkeypatch.setattr(zeromq, "_HANDSHAKE", 0.2)
    with open_bus() as bus:
        server = bus.server(address)
        bus.publisher(f"{address}2", lossless=False)
        with connection(socket_path(address), GREETING) as late, connection(socket_path(f"{address}2")) as other:
            finish_handshake(late)
            while other.recv(64):  # until the publisher closes the connection
                pass
            late.sendall(ready(b"REQ") + frame(b"", more=True) + frame(b"x"))
            bus.wait(server, timeout=BOUND)
            assert server.receive().body == b"x"
