"""The limits of the sockets: how much an unread queue holds, and how long a message may be."""

from __future__ import annotations

import pytest
import zmq

from dnstrail.bus import zeromq
from live.workers import asker, open_bus, short_folder, wait_until

TOPIC = "events"
SMALL = bytes(4096)  # large enough that the kernel's own buffer holds few of them
TOO_LONG = zeromq._MAX_MESSAGE + 1


@pytest.fixture
def address():
    """Yield an address in a folder of its own."""
    with short_folder() as folder:
        yield f"ipc://{folder}/end.sock"


def test_a_live_publisher_holds_a_bounded_queue_for_a_subscriber_that_does_not_read(address):
    """The publisher keeps as many messages as its high-water mark for such a subscriber, and drops the rest."""
    with open_bus() as bus, zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        publisher = bus.publisher(address, lossless=False)
        subscriber.setsockopt(zmq.RCVHWM, 1)
        subscriber.subscribe(TOPIC)
        subscriber.connect(address)
        wait_until(lambda: publisher.subscribers(TOPIC) == 1, "the subscription")
        for _ in range(2 * zeromq._HIGH_WATER):
            publisher.publish(TOPIC, SMALL)
        received = 0
        while subscriber.poll(200):
            subscriber.recv_multipart()
            received += 1
    assert zeromq._HIGH_WATER <= received < 1.5 * zeromq._HIGH_WATER


def test_a_subscriber_receives_no_message_beyond_the_limit(address):
    """A message that is too long does not arrive: its sender is disconnected."""
    with open_bus() as bus, zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.bind(address)
        subscriber = bus.subscriber([address], [TOPIC])
        assert publisher.recv() == b"\x01" + TOPIC.encode()
        publisher.send_multipart([TOPIC.encode(), bytes(TOO_LONG)])
        assert publisher.poll(5000)
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
