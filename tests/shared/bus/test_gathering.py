"""Messages that nobody waits for gather before a worker wakes up for them."""

from __future__ import annotations

import json
import select
import socket
import threading
from contextlib import ExitStack, contextmanager

import pytest
import zmq

from dnstrail.bus import relay
from dnstrail.bus.relay import ANY, Allowance, Relay, Way
from live.processes import run_dir
from live.workers import open_bus

PATIENCE = 20.0
PUBLISHED = Allowance(1 << 20, renewed=True, gathered=True)
WELCOME = b"w" * 300  # of the server of another host: its handshake is over


class _OtherHost:
    """A server on another host, and the connection of the worker to it through a relay."""

    def __init__(self, control, folder, number, allowance, stack):
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.settimeout(PATIENCE)
        path = str(folder / f"{number}.sock")
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen()
        way = Way(number, f"tcp://127.0.0.1:{server.getsockname()[1]}", allowance)
        socket.send_fds(control, [json.dumps(way).encode()], [listener.fileno()])
        self.worker = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.worker.settimeout(PATIENCE)
        self.worker.connect(path)
        self.host = stack.enter_context(server.accept()[0])
        self.host.settimeout(PATIENCE)

    def publish(self, data):
        """Send something to the worker."""
        self.host.sendall(data)

    def receive(self, size):
        """Return some bytes of the host, as the worker receives them."""
        return self.worker.recv(size, socket.MSG_WAITALL)

    @property
    def waits(self):
        """Whether the worker has received nothing."""
        return not select.select([self.worker], [], [], 0)[0]


@contextmanager
def running_relay():
    """Run a relay in a thread, and yield the socket for its orders."""
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    thread = threading.Thread(target=Relay(theirs, frozenset()).run)
    thread.start()
    try:
        yield control
    finally:
        control.close()
        thread.join()
        theirs.close()


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """Yield a publisher and a server of other hosts. What publishers send gathers until somebody waits for it."""
    with ExitStack() as stack:
        control = stack.enter_context(running_relay())
        publisher = _OtherHost(control, tmp_path, 1, PUBLISHED, stack)
        server = _OtherHost(control, tmp_path, 2, ANY, stack)
        publisher.publish(WELCOME)
        server.publish(WELCOME)
        assert publisher.receive(len(WELCOME)) == server.receive(len(WELCOME)) == WELCOME
        monkeypatch.setattr(relay, "_GATHER", 1000.0)
        publisher.publish(b"begins")
        assert publisher.receive(6) == b"begins"
        yield publisher, server


def test_what_publishers_send_gathers_and_delays_nothing_else(hosts):
    """A message of a publisher waits for others, while the reply of another server is passed on."""
    publisher, server = hosts
    publisher.publish(b"turn")
    server.publish(b"reply")
    assert server.receive(5) == b"reply"
    assert publisher.waits


def test_a_request_to_another_host_ends_the_gathering(hosts):
    """After a request the messages of publishers are passed on at once: a lookup may wait for the end of a turn."""
    publisher, server = hosts
    publisher.publish(b"turn")
    server.worker.sendall(b"end your turn")
    assert publisher.receive(4) == b"turn"
    publisher.publish(b"next")
    assert publisher.receive(4) == b"next"


def test_a_wait_looks_at_its_sockets_no_more_often_than_something_happens(monkeypatch):
    """A wait of less than a millisecond does not poll all the time."""
    polls, poll = [], zmq.Poller.poll

    def counted(self, timeout):
        polls.append(timeout)
        return poll(self, timeout)

    monkeypatch.setattr(zmq.Poller, "poll", counted)
    with run_dir() as folder, open_bus() as bus:
        requester = bus.requester(f"ipc://{folder}/nobody.sock")
        for _ in range(10):
            bus.wait(requester, timeout=0.0009)
    assert len(polls) <= 20
