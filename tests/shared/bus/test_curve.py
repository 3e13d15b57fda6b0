"""The bus between hosts: a client without an allowed key receives nothing, is counted, and blocks nobody.

Tests of dnstrail.bus.authenticator, dnstrail.bus.tcp.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import zmq
from structlog.testing import capture_logs

from dnstrail import log_pause
from dnstrail.bus import ZmqBus, curve, handshakes, relay, zeromq
from dnstrail.bus.authenticator import AllowedClients
from dnstrail.bus.keys import CLIENTS, SERVERS, allow, load_keys, new_pair
from dnstrail.bus.relay import TOO_MUCH, Allowance
from dnstrail.errors import BusError
from live.ports import free_port
from live.raw_curve_peer import COMMAND, LONG_PING, MORE, PING, CurvePeer, curve_peer, curve_server
from live.workers import BOUND, short_folder, wait_until

HOST, ATTACKER = "127.0.0.1", "127.0.0.2"
LATE, LARGEST = 300, 128 << 10  # batches, and the bytes of each: more than waits before a worker


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


@contextmanager
def bus_of(folder):
    """Open a bus with the keys of a folder."""
    bus = ZmqBus(load_keys(folder))
    try:
        yield bus
    finally:
        bus.close(now=True)


class Two:
    """A server and a client, each with a folder of keys. The client knows the server, which does not allow it yet."""

    def __init__(self, folder):
        self.server, self.client = folder / "server", folder / "client"
        self.public = new_pair(self.client)
        allow(self.client, SERVERS, HOST, new_pair(self.server))
        self.address = f"tcp://{HOST}:{free_port(HOST)}"

    def allow(self):
        """Allow the client."""
        allow(self.server, CLIENTS, "central", self.public)


@pytest.fixture
def two(folder):
    return Two(folder)


def answer(server):
    """Answer the waiting requests, and return what each of their clients may do."""
    seen = []
    while (served := server.receive()) is not None:
        seen.append((served.remote, served.user))
        served.reply(served.body.upper())
    return seen


def reply_to(client, server):
    """Return the reply to a request, sent again until it arrives."""
    replies = []

    def replied():
        answer(server)
        replies.append(client.reply())
        return replies[-1] is not None

    client.send(b"x")
    wait_until(replied, "the reply")
    return replies[-1]


def test_a_client_is_refused_until_its_key_is_allowed(two):
    """A client without an allowed key is logged and counted, and gets nothing; once it is allowed, an answer."""
    with capture_logs() as logs, bus_of(two.server) as serving, bus_of(two.client) as asking:
        server, client = serving.server(two.address), asking.requester(two.address)
        client.send(b"x")
        wait_until(lambda: {line["event"] for line in logs} == {"key_not_allowed", "client_refused"}, "both log lines")
        assert server.refused
        assert server.receive() is None
        told = {line["event"]: line for line in logs}
        assert (told["key_not_allowed"]["key"], told["client_refused"]["client"]) == (two.public, f"host {HOST}")
        two.allow()
        assert reply_to(client, server) == b"X"


def test_refusals_are_logged_once_in_a_while(two, monkeypatch):
    """Many refusals at one socket make one line, and each is counted."""
    monkeypatch.setattr(log_pause, "EVERY", 3600.0)
    with capture_logs() as logs, bus_of(two.server) as serving, bus_of(two.client) as asking:
        server = serving.server(two.address)
        for _ in range(5):
            asking.requester(two.address).send(b"x")
        wait_until(lambda: server.refused >= 5, "five refusals")
    assert sorted(line["event"] for line in logs) == ["client_refused", "key_not_allowed"]


ENDLESS = 64 << 20  # bytes: several times as many as the relay lets pass without an answer


def send_until_closed(peer, parts, most=ENDLESS):
    """Send parts of a message that never ends, a heartbeat behind each; return the bytes that were accepted."""
    sent = 0
    with suppress(OSError):
        while sent < most:
            data = b"".join(peer.frame(bytes(1000), MORE) for _ in range(parts)) + peer.frame(LONG_PING, COMMAND)
            peer.socket.sendall(data)
            sent += len(data)
    return sent


@pytest.mark.parametrize("answers", [0, 3])
def test_a_message_of_an_allowed_host_that_never_ends_is_cut_off(two, answers):
    """Heartbeats are no answers: a worker holds 16 MiB of a message without an end, and 2 MiB more for each answer."""
    two.allow()
    keys = load_keys(two.client)
    pair = keys.public, keys.secret, keys.servers[HOST].public
    with capture_logs() as logs, bus_of(two.server) as serving:
        server = serving.server(two.address)
        with curve_peer(two.address, *pair) as peer:
            for _ in range(answers):
                peer.socket.sendall(peer.frame(b"", MORE) + peer.frame(b"request"))
            served = [next_request(server) for _ in range(answers)]
            for one in served:
                one.reply(b"the answer, which is longer than a heartbeat")
            sent = send_until_closed(peer, 100)
        wait_until(lambda: server.refused, "the refusal")
    assert sent < ENDLESS
    assert [line["reason"] for line in logs if line["event"] == "client_refused"] == [TOO_MUCH]


def accept(listener, folder, kind):
    """Accept a client, as the server with the keys of a folder."""
    connected, _ = listener.accept()
    connected.settimeout(BOUND)
    peer = CurvePeer(connected)
    peer.serve(load_keys(folder).secret, kind)
    return peer


def test_a_reply_that_never_ends_is_cut_off(two, monkeypatch):
    """What a hostile server sends for one request is bounded; heartbeats in between permit no more."""
    assert Allowance(64 << 20, renewed=True) == zeromq._OF_SERVER
    monkeypatch.setattr(zeromq, "_OF_SERVER", Allowance(8 << 20, renewed=True))
    two.allow()
    with curve_server(two.address) as listener, bus_of(two.client) as asking, capture_logs() as logs:
        client = asking.requester(two.address)
        client.send(b"a request of some bytes")
        peer = accept(listener, two.server, b"ROUTER")
        with peer.socket:
            peer.socket.sendall(peer.frame(bytes(4), MORE) + peer.frame(b"", MORE))  # as a reply begins
            sent = send_until_closed(peer, 100)
        wait_until(lambda: logs, "the refusal")
    assert sent < ENDLESS
    assert [line["reason"] for line in logs] == [TOO_MUCH]


def test_an_event_that_never_ends_is_cut_off(two):
    """A subscriber holds 16 MiB of a message without an end; heartbeats in between permit no more."""
    assert Allowance(16 << 20, renewed=True, gathered=True) == zeromq._OF_PUBLISHER
    with curve_server(two.address) as listener, bus_of(two.client) as following, capture_logs() as logs:
        subscriber = following.subscriber([two.address], ["t"])
        peer = accept(listener, two.server, b"XPUB")
        with peer.socket:
            peer.read_frame()  # the subscription
            before = resident()
            peer.socket.sendall(peer.frame(b"t", MORE) + peer.frame(bytes(1000)))
            wait_until(subscriber.receive, "a whole message")
            sent = send_until_closed(peer, 100)
        wait_until(lambda: subscriber.receive() or logs, "the refusal")
        assert resident() - before < ENDLESS
    assert sent < ENDLESS
    assert [line["reason"] for line in logs] == [TOO_MUCH]


def test_a_publisher_may_send_much_to_who_reads_late(two):
    """A subscriber that reads nothing for a while misses none of the batches of an honest host, however many wait."""
    two.allow()
    with capture_logs() as logs, bus_of(two.server) as serving, bus_of(two.client) as following:
        publisher = serving.publisher(two.address, lossless=False)
        subscriber = following.subscriber([two.address], ["t"])
        wait_until(lambda: publisher.subscribers("t"), "the subscription")
        for _ in range(LATE):
            publisher.publish("t", bytes(LARGEST))
        received = Counter()

        def all_received():
            while message := subscriber.receive():
                received[len(message[1])] += 1
            return received.total() == LATE

        wait_until(all_received, "all batches")
    assert logs == []


def resident():
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def next_request(server):
    """Wait for the next request."""
    requests = []
    wait_until(lambda: requests.append(server.receive()) or requests[-1], "a request")
    return requests[-1]


def test_an_idle_client_with_heartbeats_stays_connected(two, monkeypatch):
    """The heartbeats of a client that asks nothing do not add up to a refusal: their answers permit as many again."""
    monkeypatch.setattr(zeromq, "_OF_CLIENT", Allowance(4096, renewed=True))
    two.allow()
    keys = load_keys(two.client)
    pair = keys.public, keys.secret, keys.servers[HOST].public
    with bus_of(two.server) as serving:
        server = serving.server(two.address)
        with curve_peer(two.address, *pair) as peer:
            for _ in range(200):  # of 49 bytes
                peer.socket.sendall(peer.frame(PING, COMMAND))
                peer.read_frame()
            peer.socket.sendall(peer.frame(b"", MORE) + peer.frame(b"request"))
            assert next_request(server).body == b"request"
        assert not server.refused


def test_a_client_without_a_key_is_counted(two):
    """A plain ZeroMQ client gets nothing, and is counted."""
    with bus_of(two.server) as serving, zmq.Context() as context, context.socket(zmq.REQ) as plain:
        server = serving.server(two.address)
        plain.linger = 0
        plain.connect(two.address)
        plain.send(b"x")
        wait_until(lambda: server.refused, "the refusal")
        assert server.receive() is None


def test_a_server_with_another_key_gets_no_request(two, folder):
    """A client sends nothing to a server whose key is not the known one."""
    new_pair(folder / "other")
    allow(folder / "other", CLIENTS, "central", two.public)
    with bus_of(folder / "other") as serving, bus_of(two.client) as asking:
        server, client = serving.server(two.address), asking.requester(two.address)
        client.send(b"x")
        wait_until(lambda: server.refused, "the failed handshake")
        assert server.receive() is None


def test_events_need_a_key(two):
    """A subscriber is refused like a client of lookups, and connected once its key is allowed."""
    with bus_of(two.server) as serving, bus_of(two.client) as subscribing:
        publisher = serving.publisher(two.address, lossless=False)
        subscriber = subscribing.subscriber([two.address], ["t"])
        wait_until(lambda: publisher.refused, "the refusal")
        assert not publisher.subscribers("t")
        two.allow()
        wait_until(lambda: (subscriber.receive(), publisher.subscribers("t"))[1], "the subscription")


def test_findings_need_a_key(two):
    """A sender of findings is refused like a client of lookups, and heard once its key is allowed."""
    with bus_of(two.server) as serving, bus_of(two.client) as sending:
        puller, pusher = serving.puller(two.address), sending.pusher(two.address)
        pusher.push(b"finding")
        wait_until(lambda: puller.refused, "the refusal")
        assert puller.receive() is None
        two.allow()
        wait_until(puller.receive, "the finding")


def test_one_socket_serves_this_host_and_others(two, folder):
    """A socket that is bound twice knows the user of a client here, and the key of one elsewhere."""
    local = f"ipc://{folder}/x.sock"
    two.allow()
    seen = []
    with bus_of(two.server) as serving, bus_of(two.client) as asking:
        server = serving.server(local, two.address)
        for address in (local, two.address):
            asking.requester(address).send(b"x")
        wait_until(lambda: seen.extend(answer(server)) or len(seen) == 2, "both requests")
    assert {remote for remote, _ in seen} == {"", "central"}
    assert [user for remote, user in seen if remote] == [None]
    assert all(isinstance(user, int) for remote, user in seen if not remote)


def test_a_subscriber_follows_this_host_and_another(two, folder):
    """One subscriber connects to a socket without keys and to one with keys."""
    local = f"ipc://{folder}/x.sock"
    two.allow()
    with bus_of(two.server) as publishing, bus_of(two.client) as subscribing:
        here, there = (publishing.publisher(each, lossless=False) for each in (local, two.address))
        subscriber = subscribing.subscriber([two.address, local], ["t"])
        wait_until(lambda: here.subscribers("t") and there.subscribers("t"), "both subscriptions")
        here.publish("t", b"here")
        there.publish("t", b"there")
        received = set()
        wait_until(lambda: received.add(subscriber.receive()) or len(received - {None}) == 2, "both messages")


def test_a_connect_without_the_key_of_the_server_is_refused(two):
    """A server whose key is unknown is refused with the command that adds it."""
    with (
        bus_of(two.server) as bus,
        pytest.raises(BusError, match=r"dnstrail keys allow --server 127\.0\.0\.1"),
    ):
        bus.requester(two.address)


def test_a_strict_umask_shuts_nobody_out(two):
    """The folder behind the relay can be entered whatever the umask: the relay of root has no capability."""
    two.allow()
    before = os.umask(0o177)
    try:
        with bus_of(two.server) as serving, bus_of(two.client) as asking:
            assert reply_to(asking.requester(two.address), serving.server(two.address)) == b"X"
    finally:
        os.umask(before)


def test_a_thousand_silent_handshakes_block_nobody(two):
    """A host that opens 1,000 connections keeps 64 at most; a client of another host is answered meanwhile."""
    two.allow()
    port = int(two.address.rpartition(":")[2])
    with bus_of(two.server) as serving, bus_of(two.client) as asking, ExitStack() as hostile:
        server = serving.server(two.address)
        for _ in range(1000):
            connection = hostile.enter_context(socket.socket())
            connection.bind((ATTACKER, 0))
            with suppress(ConnectionResetError):
                connection.connect((HOST, port))
        assert reply_to(asking.requester(two.address), server) == b"X"
        wait_until(lambda: server.refused >= 1000, "the closed connections")
        assert server.refused == 1000


def test_a_client_that_shows_no_key_is_reported(two, monkeypatch):
    """A connection that shows no allowed key in time is reported with a reason of its own."""
    monkeypatch.setattr(curve, "PATIENCE", 0.5)
    monkeypatch.setattr(relay, "_IN_TIME", 0.1)  # the relay notes the connection a moment later than libzmq
    with capture_logs() as logs, bus_of(two.server) as serving:
        server = serving.server(two.address)
        with socket.create_connection((HOST, int(two.address.rpartition(":")[2]))):
            wait_until(lambda: server.refused, "the refusal")
    assert [line["reason"] for line in logs] == [relay.SLOW]


@contextmanager
def subscriber_of(folder, hosts, port):
    """Open a subscriber to hosts with addresses and keys of their own."""
    new_pair(folder / "client")
    for host in hosts:
        allow(folder / "client", SERVERS, host, new_pair(folder / host), host)
    with bus_of(folder / "client") as following:
        yield following.subscriber([f"tcp://{host}:{port}" for host in hosts], ["t"])


def left(connection):
    """Return whether the other end has hung up."""
    with suppress(BlockingIOError):
        while connection.recv(4096):
            pass
        return True
    return False


def test_a_few_handshakes_with_hosts_at_once(folder, monkeypatch):
    """A subscriber of many hosts begins a handshake when another one is over, and connects to all of them in turn."""
    monkeypatch.setattr(handshakes, "AT_ONCE", 2)
    monkeypatch.setattr(handshakes, "PATIENCE", 0.2)
    hosts = [f"127.0.0.{number}" for number in range(11, 17)]
    connected, seen = set[socket.socket](), set[str]()
    with ExitStack() as stack, socket.create_server(("", free_port(HOST))) as listener:
        listener.setblocking(False)

        def all_seen():
            with suppress(BlockingIOError):
                connection = stack.enter_context(listener.accept()[0])
                connection.setblocking(False)
                connected.difference_update([*filter(left, connected)])
                connected.add(connection)
                seen.add(connection.getsockname()[0])
            assert len(connected) <= 2
            return len(seen) == len(hosts)

        with subscriber_of(folder, hosts, listener.getsockname()[1]):
            wait_until(all_seen, "a connection to each host")


def test_hosts_that_are_away_delay_no_handshake(folder, monkeypatch):
    """A host that cannot be reached does not hold the place of a handshake until it is over."""
    monkeypatch.setattr(handshakes, "AT_ONCE", 1)
    monkeypatch.setattr(handshakes, "PATIENCE", 600.0)
    hosts = [f"127.0.0.{number}" for number in range(11, 16)]
    with socket.create_server((hosts[-1], free_port(hosts[-1]))) as listener:
        listener.settimeout(BOUND)
        with subscriber_of(folder, hosts, listener.getsockname()[1]):
            listener.accept()[0].close()


SLOW_SUBSCRIBER = """
import sys, time
from pathlib import Path
from dnstrail.bus import ZmqBus, curve, handshakes, relay, zeromq
from dnstrail.bus.keys import load_keys
bus = ZmqBus(load_keys(Path(sys.argv[1])))
subscriber = bus.subscriber([sys.argv[2]], ["t"])
received = b""
while received != b"last":
    bus.wait(subscriber, timeout=0.05)
    for _ in range(200):
        if (message := subscriber.receive()) is None:
            break
        received = message[1]
    time.sleep(0.1)
bus.close()
"""


def test_a_publisher_that_hangs_up_behind_heartbeats_ends_no_subscriber(two):
    """A heartbeat behind unread messages of a peer that hung up aborts libzmq; the relay hides the hang-up."""
    command = [sys.executable, "-c", SLOW_SUBSCRIBER, str(two.client), two.address]
    with subprocess.Popen(command) as subscriber:
        try:
            for body in (b"first", b"second", b"last"):
                publish_and_hang_up(two, body, lambda: subscriber.poll() is not None)
                assert subscriber.poll() in (None, 0)
            assert subscriber.wait(BOUND) == 0
        finally:
            subscriber.kill()


def publish_and_hang_up(two, body, ended):
    """Publish more than a subscriber reads, with heartbeats in between; leave when it has ended, or was sent all."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as hostile:
        hostile.linger, hostile.sndhwm = 0, 0
        hostile.setsockopt(zmq.HEARTBEAT_IVL, 1)
        hostile.setsockopt(zmq.HEARTBEAT_TIMEOUT, 100_000)
        hostile.curve_server, hostile.curve_secretkey = True, load_keys(two.server).secret.encode()

        def binds():
            with suppress(zmq.ZMQError):  # the last one was closed just now
                hostile.bind(two.address)
                return True
            return False

        wait_until(binds, "the port")
        wait_until(lambda: hostile.poll(50) or ended(), "the subscription")
        while hostile.poll(20):
            hostile.recv()
        for number in range(8000):
            hostile.send_multipart([b"t", body])
            if number % 50 == 0:
                hostile.poll(1)  # heartbeats come between the messages
        if body == b"last":
            wait_until(ended, "the end of the subscriber")


def test_a_folder_that_others_may_write_allows_nobody(two):
    """The allowed clients are read anew after each change; a folder that is not safe allows nobody."""
    clients = AllowedClients(two.server)
    assert clients.name_of(two.public) is None
    two.allow()
    assert clients.name_of(two.public) == "central"
    (two.server / CLIENTS).chmod(0o777)
    with capture_logs() as logs:
        assert [clients.name_of(two.public) for _ in range(3)] == [None] * 3
    assert [line["event"] for line in logs] == ["keys_refused"]
    (two.server / CLIENTS).chmod(0o755)
    assert clients.name_of(two.public) == "central"
    (two.server / CLIENTS / "central.key").unlink()
    assert clients.name_of(two.public) is None
