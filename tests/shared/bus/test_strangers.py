"""Strangers at the sockets of a worker: a user of the group ends nothing, fills nothing, and is named.

Tests of dnstrail.bus.gate, dnstrail.bus.relayed.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dnstrail.bus import ZmqBus, relay
from live.processes import children_of
from live.raw_peer import GREETING, connection, finish_handshake, frame, ready, send
from live.strangers import HONEST, PING, SENT, STRANGER, as_user, bus_worker, open_folder
from live.workers import open_bus, short_folder, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives folders away, and becomes other users")
REQUEST = SENT["lookups"][1]


@pytest.fixture
def folder():
    """Yield a folder that the group of the strangers may enter."""
    with short_folder() as folder:
        yield open_folder(folder)


def asked_by(user, folder):
    """Return the reply to a request of a user, who connects anew."""
    with as_user(user), connection(folder / "lookups.sock", GREETING + ready(b"REQ")) as asking:
        finish_handshake(asking)
        asking.sendall(REQUEST)
        received = b""
        while not received.endswith(frame(str(user).encode())):
            received += asking.recv(4096) or pytest.fail(f"{received!r}")
    return received


def hang_up(path, kind, sent):
    """Connect as the stranger, unless too many of his connections are open; send what nobody reads, and hang up."""
    with (
        suppress(OSError, AssertionError),
        as_user(STRANGER),
        connection(path, GREETING + ready(kind)) as hostile,
    ):
        finish_handshake(hostile)
        hostile.setblocking(False)
        hostile.send(sent)


@pytest.mark.parametrize("name", SENT)
def test_a_heartbeat_behind_unread_messages_ends_no_worker(folder, name):
    """Libzmq aborts at a heartbeat of a peer that has hung up with messages unread; the relay hides the hang-up."""
    kind, message = SENT[name]
    with bus_worker(folder) as worker:
        for _ in range(20):
            hang_up(folder / f"{name}.sock", kind, (message + PING) * 4000)
        assert asked_by(HONEST, folder)
        assert worker.poll() is None


def test_many_connections_that_hang_up_with_requests_end_no_worker(folder):
    """Forty connections at a time queue forty requests each, and close; others are answered in between."""
    with bus_worker(folder) as worker:
        for _ in range(20):
            for _ in range(40):
                hang_up(folder / "lookups.sock", b"DEALER", REQUEST * 40)
            assert asked_by(HONEST, folder)
        assert worker.poll() is None


def test_the_worker_knows_the_user_behind_the_relay(folder):
    """A request has the user of its client; root and the owner of the folder reach the worker without the relay."""
    with open_bus() as bus:
        server = bus.server(f"ipc://{folder}/lookups.sock")
        seen = {}

        def users() -> dict[bytes, int | None]:
            while (served := server.receive()) is not None:
                seen[served.body] = served.user
            return seen

        bus.requester(f"ipc://{folder}/lookups.sock").send(b"root")
        wait_until(users, "the request of root: the whole process is the stranger from here")
        with as_user(STRANGER), connection(folder / "lookups.sock", GREETING + ready(b"REQ")) as asking:
            finish_handshake(asking)
            asking.sendall(frame(b"", more=True) + frame(b"stranger"))
            wait_until(lambda: len(users()) == 2, "both requests")
        with pytest.raises(PermissionError), as_user(STRANGER), connection(folder / "lookups-direct.sock"):
            pass
    assert seen == {b"root": 0, b"stranger": STRANGER}


def test_a_user_has_a_bounded_number_of_connections(folder):
    """Beyond the bound a user's connections are closed and counted; another user is served."""
    with open_bus() as bus:
        server = bus.server(f"ipc://{folder}/lookups.sock")
        opened = []
        with as_user(STRANGER):
            for _ in range(relay.MOST_OF_USER + 10):
                opened.append(socket.socket(socket.AF_UNIX))
                opened[-1].connect(str(folder / "lookups.sock"))
        wait_until(lambda: server.refused == 10, "the closed connections")
        with as_user(HONEST), connection(folder / "lookups.sock", GREETING + ready(b"REQ")) as asking:
            finish_handshake(asking)
        for one in opened:
            one.close()


def test_requests_without_an_answer_are_bounded(folder):
    """A user whose requests wait for an answer is cut off at 16 MiB, and counted; the worker holds no more."""
    request = frame(bytes(1 << 20))
    with open_bus() as bus:
        server = bus.server(f"ipc://{folder}/lookups.sock")
        with as_user(STRANGER), connection(folder / "lookups.sock", GREETING + ready(b"DEALER")) as hostile:
            finish_handshake(hostile)
            sent = send(hostile, request, 1000) * len(request)
        wait_until(lambda: server.refused == 1, "the cut")
    assert 15 << 20 < sent < 18 << 20


def test_a_subscriber_that_sends_without_end_is_cut_off(folder):
    """A subscriber sends what its subscriptions need, and no more."""
    with open_bus() as bus:
        publisher = bus.publisher(f"ipc://{folder}/events.sock", lossless=False)
        with as_user(STRANGER), connection(folder / "events.sock", GREETING + ready(b"SUB")) as hostile:
            finish_handshake(hostile)
            assert send(hostile, frame(b"\x01" + bytes(200), more=True), 100_000) < 100_000
        wait_until(lambda: publisher.refused == 1, "the cut")
        assert publisher.subscribers("") == 0


def test_a_relay_that_ends_is_started_again(folder):
    """A worker whose relay dies serves other users again by a new one."""
    with open_bus() as bus:
        server = bus.server(f"ipc://{folder}/lookups.sock")
        first = bus._gate.relay
        os.kill(first, 9)
        wait_until(lambda: bus._gate.relay != first, "the next relay")
        with as_user(STRANGER), connection(folder / "lookups.sock", GREETING + ready(b"REQ")) as asking:
            finish_handshake(asking)
            asking.sendall(REQUEST)
            wait_until(lambda: bus.wait(server, timeout=0.05) or server.receive() is not None, "the request")


def test_a_last_message_reaches_a_subscriber_behind_the_relay(folder):
    """A large message that a worker publishes before it ends arrives whole."""
    with ExitStack() as stack:
        bus = ZmqBus()
        publisher = bus.publisher(f"ipc://{folder}/events.sock", lossless=False)
        with as_user(STRANGER):
            reading = stack.enter_context(connection(folder / "events.sock", GREETING + ready(b"SUB")))
        finish_handshake(reading)
        reading.sendall(SENT["events"][1])
        wait_until(lambda: publisher.subscribers("topic"), "the subscription")
        publisher.publish("topic", bytes(4 << 20))
        ending = threading.Thread(target=bus.close)
        ending.start()
        received = 0
        while chunk := reading.recv(1 << 16):
            received += len(chunk)
        ending.join()
    assert received > 4 << 20


def descriptors():
    """Return the open descriptors of this process."""
    return {link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}


def greet(user, client, path):
    """Connect a socket to the bus as a user."""
    with as_user(user):
        client.connect(path)
    client.sendall(GREETING + ready(b"DEALER"))
    finish_handshake(client)


def received_by(server):
    """Return the next request of a server."""
    requests = []
    wait_until(lambda: requests or requests.extend(filter(None, [server.receive()])), "a request")
    return requests[0]


def test_a_request_left_behind_belongs_to_no_later_user(folder):
    """A stranger leaves a request and hangs up; another user's connection has his descriptor, and not his request."""
    path = str(folder / "lookups.sock")
    with ExitStack() as stack:
        bus = stack.enter_context(open_bus())
        hostile, *clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(10)]
        server = bus.server(f"ipc://{folder}/lookups.sock")
        before = descriptors()
        greet(STRANGER, hostile, path)
        [at] = descriptors() - before
        hostile.sendall(REQUEST)
        hostile.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: at not in descriptors(), "the end of his connection")
        while at not in descriptors():  # another one that became free meanwhile may come first
            greet(HONEST, clients.pop(), path)
        assert received_by(server).user == STRANGER


def test_a_relay_that_fails_states_why_and_is_started_again(folder, monkeypatch):
    """A fault of the relay ends it alone: the worker logs the fault, and the next client is served."""
    owner_of = relay.Relay._owner

    def fail(self, client):
        owner, most = owner_of(self, client)
        return {f"user {HONEST}": (owner, most)}[owner]

    monkeypatch.setattr(relay.Relay, "_owner", fail)
    with open_bus() as bus, capture_logs() as logs:
        server = bus.server(f"ipc://{folder}/lookups.sock")
        failing = children_of(os.getpid())
        with suppress(ConnectionError), as_user(STRANGER), connection(folder / "lookups.sock"):
            pass  # the relay may end before the greeting is sent
        wait_until(lambda: set(children_of(os.getpid())) - {*failing}, "the next relay")
        with as_user(HONEST), connection(folder / "lookups.sock", GREETING + ready(b"DEALER")) as asking:
            finish_handshake(asking)
            asking.sendall(REQUEST)
            assert received_by(server).user == HONEST
    [log] = logs
    assert log["event"] == "relay_ended"
    assert log["failure"].startswith(f"KeyError: 'user {STRANGER}' (line ")


NAMED_ROOT = ready(b"DEALER")[2:] + b"\x06X-User" + (1).to_bytes(4, "big") + b"0"


def test_no_client_names_its_user_itself(folder):
    """The relay names the user before what the client says of itself, however its bytes are divided."""
    with open_bus() as bus:
        server = bus.server(f"ipc://{folder}/lookups.sock")
        with as_user(STRANGER), connection(folder / "lookups.sock", GREETING) as hostile:
            for byte in b"\x04" + bytes([len(NAMED_ROOT)]) + NAMED_ROOT:
                hostile.send(bytes([byte]))
            finish_handshake(hostile)
            hostile.sendall(REQUEST)
            assert received_by(server).user == STRANGER


def test_a_client_that_names_its_user_behind_an_error_is_not_heard(folder):
    """Another command before READY ends the connection."""
    with open_bus() as bus:
        server = bus.server(f"ipc://{folder}/lookups.sock")
        late = b"\x04\x07\x05ERROR\0" + b"\x04" + bytes([len(NAMED_ROOT)]) + NAMED_ROOT + REQUEST
        with as_user(STRANGER), connection(folder / "lookups.sock", GREETING + late) as hostile, suppress(OSError):
            while hostile.recv(1 << 16):
                pass
        assert server.receive() is None
