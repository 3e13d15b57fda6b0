"""A peer of the bus that speaks ZMTP by itself, and behaves as badly as it likes (RFC 23/ZMTP)."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
_PATIENCE = 20.0  # seconds for which a send waits


def ready(kind: bytes) -> bytes:
    """Return the command that ends the handshake of a socket of this kind."""
    body = b"\x05READY\x0bSocket-Type" + struct.pack("!I", len(kind)) + kind
    return b"\x04" + bytes([len(body)]) + body


def frame(body: bytes, *, more: bool = False) -> bytes:
    """Return a frame of a message."""
    if len(body) < 256:
        return bytes([more, len(body)]) + body
    return bytes([2 | more]) + struct.pack("!Q", len(body)) + body


@contextmanager
def connection(path: Path, sent: bytes = b"") -> Iterator[socket.socket]:
    """Connect to a socket of the bus, and send bytes."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))  # waits while the queue of the listener is full
        peer.settimeout(_PATIENCE)
        peer.sendall(sent)
        yield peer


def finish_handshake(connected: socket.socket) -> None:
    """Wait for the first byte of the other end's READY: libzmq refuses frames that come before it has sent READY."""
    assert all(connected.recv(1) for _ in range(len(GREETING) + 1)), "the other end closed the connection"


@contextmanager
def peer(path: Path, kind: bytes) -> Iterator[socket.socket]:
    """Connect as a socket of a kind; a thread reads and discards everything that arrives."""
    with connection(path, GREETING + ready(kind)) as connected:
        finish_handshake(connected)
        thread = threading.Thread(target=_discard, args=(connected,), daemon=True)
        thread.start()
        try:
            yield connected
        finally:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)
            thread.join()


def send(connected: socket.socket, data: bytes, times: int) -> int:
    """Send data so many times, or until the other end has closed the connection; return how often it was sent."""
    for sent in range(times):
        try:
            connected.sendall(data)
        except OSError:
            return sent
    return times


def _discard(connected: socket.socket) -> None:
    with suppress(OSError):
        while connected.recv(1 << 16):
            pass
