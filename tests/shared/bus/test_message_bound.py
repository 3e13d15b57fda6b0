"""The frames and bytes of a client's messages are followed as libzmq reads them."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import zmq
from structlog.testing import capture_logs

from dnstrail.bus.client_bytes import MOST_BYTES, MOST_FRAMES, MessageBound
from dnstrail.bus.relay import NO_END
from live.processes import PATIENCE
from live.raw_peer import GREETING, frame, peer, ready, send
from live.workers import asker, open_bus, short_folder, wait_until

HELLO = GREETING + ready(b"DEALER")
PING = b"\x04\x07\x04PING\0\0"


def pieces(data: bytes, chosen: random.Random) -> Iterator[bytes]:
    """Yield data in pieces of random lengths."""
    while data:
        size = chosen.choice((1, 9, 64, 1000, 1 << 16, len(data)))
        yield data[:size]
        data = data[size:]


def accepted(*sent: bytes, seed: int = 0) -> bool:
    """Return whether bytes are accepted, in random pieces."""
    bound = MessageBound()
    return all(bound.follow(piece) for piece in pieces(b"".join(sent), random.Random(seed)))


@pytest.mark.parametrize("seed", range(20))
def test_whole_messages_are_accepted(seed):
    """Any number of messages within the bounds passes, in whatever pieces they arrive, with commands between frames."""
    chosen = random.Random(seed)
    sent = [HELLO]
    for _ in range(300):
        more = chosen.choice((0, 1, 2, MOST_FRAMES))
        for _ in range(more):
            sent.append(frame(bytes(chosen.choice((0, 1, 255, 256, 3000))), more=True))
            sent.append(PING * chosen.randrange(2))
        sent.append(frame(b"end"))
    assert accepted(*sent, seed=seed)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 8000])
def test_a_message_without_an_end_is_refused(size):
    """A message with one frame too many is refused, wherever it begins; commands between its frames hide nothing."""
    one = frame(bytes(size), more=True)
    for between in (b"", PING):
        endless = (one + between) * MOST_FRAMES
        assert accepted(HELLO, frame(b"first"), endless)
        assert not accepted(HELLO, frame(b"first"), endless, one)


def test_the_bytes_of_a_message_are_bounded():
    """A message of few long frames is refused by its bytes, before they arrive; its last frame is libzmq's to bound."""
    half = frame(bytes(MOST_BYTES // 2), more=True)
    assert accepted(HELLO, half, half, frame(bytes(2 * MOST_BYTES)))
    assert not accepted(HELLO, half, half, frame(bytes(500), more=True)[:9])


def test_a_command_with_more_frames_counts():
    """A command that claims to be a part of a message counts as a frame."""
    assert not accepted(HELLO, b"\x05\x07\x04PING\0\0" * (MOST_FRAMES + 1))


@pytest.mark.parametrize("seed", range(5))
def test_frames_are_counted(seed):
    """The frames of each piece are counted, those of the handshake included."""
    bound, counted = MessageBound(), 0
    sent = HELLO + b"".join(frame(bytes(size)) for size in range(0, 600, 7))
    for piece in pieces(sent, random.Random(seed)):
        assert bound.follow(piece)
        counted += bound.frames
    assert counted == 1 + len(range(0, 600, 7))


@pytest.mark.parametrize(
    ("sent", "is_zmtp"),
    [
        (b"\xff" + bytes(8) + b"\x7f\x01\x05" + frame(b"x"), True),  # ZMTP 2: revision 1, DEALER
        (b"\x01\x00", False),  # ZMTP 1, without a version
        (b"\xff" + bytes(8) + b"\x00", False),
        (b"\xff" + bytes(8) + b"\x7f\x00\x05", False),  # ZMTP 1 behind a signature
        (b"\xff" + bytes(8) + b"\x7f\x02" + bytes(60), False),
        (b"GET / HTTP/1.1", False),
    ],
)
def test_other_protocols_are_refused(sent, is_zmtp):
    """ZMTP 2 and 3 are followed; what libzmq reads in another way is refused."""
    assert accepted(sent) is is_zmtp
    assert accepted(GREETING[:63])


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER, zmq.SUB, zmq.PUSH])
def test_messages_of_libzmq_are_followed(kind):
    """What a real client sends is accepted, heartbeats included, and its last message is known as ended."""
    with short_folder() as folder, zmq.Context() as context, context.socket(kind) as client:
        path = folder / "s"
        kind_of_peer = {zmq.REQ: zmq.ROUTER, zmq.DEALER: zmq.ROUTER, zmq.SUB: zmq.XPUB, zmq.PUSH: zmq.PULL}[kind]
        client.linger, client.heartbeat_ivl, client.heartbeat_timeout = 0, 5, 100_000
        bound, verdicts = MessageBound(), list[bool]()
        with context.socket(kind_of_peer) as server, listening(path) as outer:
            server.linger = 0
            server.bind(f"ipc://{folder}/inner")
            relay = threading.Thread(target=relayed, args=(outer, folder / "inner", bound, verdicts))
            relay.start()
            client.connect(f"ipc://{path}")
            expected = say(client, kind)
            for message in expected:
                assert server.poll(10_000)
                assert server.recv_multipart()[-len(message) :] == message
                if kind == zmq.REQ:
                    break
            client.close()
            relay.join(PATIENCE)
    assert not relay.is_alive()
    assert all(verdicts)
    assert (bound._left, bound._head, bound._frames) == (0, b"", 0)


@pytest.mark.parametrize("between", [b"", PING], ids=["frames", "with commands"])
@pytest.mark.parametrize("kind", [b"DEALER", b"SUB", b"PUSH"])
def test_a_client_whose_message_never_ends_is_cut_off(between, kind):
    """A worker does not grow by a message without an end, the log names its user, and other clients are served."""
    endless = (frame(b"", more=True) * 32_768 + between) * 8
    with short_folder() as folder, open_bus() as bus, capture_logs() as logs:
        folder.chmod(0o755)  # clients of other users come in by the relay
        address = f"ipc://{folder}/end.sock"
        end = {
            b"DEALER": partial(bus.server, address),
            b"SUB": partial(bus.publisher, address, lossless=False),
            b"PUSH": partial(bus.puller, address),
        }[kind]()
        before = resident()
        with peer(folder / "end.sock", kind) as hostile:
            assert send(hostile, endless, 100) < 100
        wait_until(lambda: end.refused == 1 and logs, "the refusal")
        assert resident() - before < 16 << 20
        if kind == b"DEALER":
            with asker(address) as client:
                client.send("version")
                wait_until(end.receive, "the request of another client")
    assert [(line["event"], line["client"], line["reason"]) for line in logs] == [
        ("client_refused", f"user {os.geteuid()}", NO_END)
    ]


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def say(client: zmq.Socket[bytes], kind: int) -> list[list[bytes]]:
    """Send some messages, and return them as they arrive."""
    if kind == zmq.SUB:
        topics = [b"a", b"b" * 200]
        for topic in topics:
            client.subscribe(topic)
        return [[b"\x01" + topic] for topic in topics]
    messages = [[b"x" * 300_000], [b"", b"y", b"z" * 70_000], [b"", b"end"]]
    if kind == zmq.REQ:
        messages = messages[:1]
    for message in messages:
        client.send_multipart(message)
    return messages


def listening(path: Path) -> socket.socket:
    """Return a listening unix socket."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


def relayed(outer: socket.socket, inner: Path, bound: MessageBound, verdicts: list[bool]) -> None:
    """Pass the bytes of one client on, and follow them."""
    client, _ = outer.accept()
    with client, socket.socket(socket.AF_UNIX) as worker:
        worker.connect(str(inner))
        back = threading.Thread(target=copied, args=(worker, client))
        back.start()
        with suppress(ConnectionResetError):  # a client closes with bytes unread
            while data := client.recv(1 << 16):
                verdicts.append(bound.follow(data))
                worker.sendall(data)
        worker.shutdown(socket.SHUT_RDWR)
        back.join(PATIENCE)


def copied(source: socket.socket, target: socket.socket) -> None:
    """Copy what arrives until the end."""
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass
