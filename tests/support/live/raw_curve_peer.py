"""Peers that speak CURVE by themselves, with any keys: their messages need not end (RFC 26/CurveZMQ)."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import zmq
from zmq.utils import z85

from live.processes import PATIENCE

_SODIUM = ctypes.CDLL(str(next(Path(zmq.__file__).parents[1].glob("pyzmq.libs/libsodium*"))))
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + bytes(32)
MORE, COMMAND = 1, 2  # flags of a frame, inside its box
PING = b"\x04PING\0\0"
LONG_PING = PING + bytes(16)  # its answer has as many bytes more


def _box(name: str, text: bytes, nonce: bytes, public: bytes, secret: bytes, grown: int) -> bytes:
    result = ctypes.create_string_buffer(len(text) + grown)
    assert not getattr(_SODIUM, name)(result, text, ctypes.c_ulonglong(len(text)), nonce, public, secret)
    return result.raw


def seal(text: bytes, nonce: bytes, public: bytes, secret: bytes) -> bytes:
    """Encrypt."""
    return _box("crypto_box_easy", text, nonce, public, secret, 16)


def _open(text: bytes, nonce: bytes, public: bytes, secret: bytes) -> bytes:
    return _box("crypto_box_open_easy", text, nonce, public, secret, -16)


def _pair() -> tuple[bytes, bytes]:
    public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
    _SODIUM.crypto_box_keypair(public, secret)
    return public.raw, secret.raw


def _framed(body: bytes, flags: int = 0) -> bytes:
    if len(body) < 256:
        return bytes([flags, len(body)]) + body
    return bytes([flags | 2]) + struct.pack("!Q", len(body)) + body


class CurvePeer:
    """A connection whose handshake is over. `_nonce` is the beginning of the nonces of this side."""

    _nonce = b"CurveZMQMESSAGEC"

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._sent = 0
        self._secret = self._server = b""

    def begin(self, public: str, secret: str, server: str, kind: bytes) -> None:
        """Make the handshake of a client."""
        connected = self.socket
        own, key, theirs = (z85.decode(each) for each in (public, secret, server))
        short, self._secret = _pair()
        connected.sendall(_GREETING)
        self._read(64)
        nonce = struct.pack("!Q", self._next())
        hello = seal(bytes(64), b"CurveZMQHELLO---" + nonce, theirs, self._secret)
        connected.sendall(_framed(b"\x05HELLO\x01\x00" + bytes(72) + short + nonce + hello, 4))
        welcome = self.read_frame()
        opened = _open(welcome[24:], b"WELCOME-" + welcome[8:24], theirs, self._secret)
        self._server, cookie = opened[:32], opened[32:]
        random = os.urandom(16)
        vouch = random + seal(short + theirs, b"VOUCH---" + random, self._server, key)
        metadata = b"\x0bSocket-Type" + struct.pack("!I", len(kind)) + kind
        nonce = struct.pack("!Q", self._next())
        sealed = seal(own + vouch + metadata, b"CurveZMQINITIATE" + nonce, self._server, self._secret)
        connected.sendall(_framed(b"\x08INITIATE" + cookie + nonce + sealed, 4))
        assert self.read_frame().startswith(b"\x05READY")

    def serve(self, secret: str, kind: bytes) -> None:
        """Make the handshake of a server that believes any client."""
        self._nonce = b"CurveZMQMESSAGES"
        self.socket.sendall(_GREETING[:32] + b"\x01" + bytes(31))
        self._read(64)
        self._server = self.read_frame()[80:112]  # the short key of the client
        short, self._secret = _pair()
        random = os.urandom(16)
        welcome = seal(short + bytes(96), b"WELCOME-" + random, self._server, z85.decode(secret))
        self.socket.sendall(_framed(b"\x07WELCOME" + random + welcome, 4))
        self.read_frame()
        metadata = b"\x0bSocket-Type" + struct.pack("!I", len(kind)) + kind
        nonce = struct.pack("!Q", self._next())
        sealed = seal(metadata, b"CurveZMQREADY---" + nonce, self._server, self._secret)
        self.socket.sendall(_framed(b"\x05READY" + nonce + sealed, 4))

    def frame(self, body: bytes, flags: int = 0) -> bytes:
        """Return an encrypted frame."""
        nonce = struct.pack("!Q", self._next())
        sealed = seal(bytes([flags]) + body, self._nonce + nonce, self._server, self._secret)
        return _framed(b"\x07MESSAGE" + nonce + sealed)

    def read_frame(self) -> bytes:
        """Return the next frame as it came."""
        flags, size = self._read(2)
        if flags & 2:
            size = struct.unpack("!Q", bytes([size]) + self._read(7))[0]
        return self._read(size)

    def _next(self) -> int:
        self._sent += 1
        return self._sent

    def _read(self, size: int) -> bytes:
        read = b""
        while len(read) < size:
            chunk = self.socket.recv(size - len(read))
            assert chunk, "the other end closed the connection"
            read += chunk
        return read


@contextmanager
def curve_peer(address: str, public: str, secret: str, server: str, kind: bytes = b"DEALER") -> Iterator[CurvePeer]:
    """Connect to a tcp address of the bus with a pair of keys."""
    with socket.create_connection(_place(address), timeout=PATIENCE) as connected:
        peer = CurvePeer(connected)
        peer.begin(public, secret, server, kind)
        yield peer


@contextmanager
def curve_server(address: str) -> Iterator[socket.socket]:
    """Listen at a tcp address of the bus."""
    with socket.create_server(_place(address)) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def _place(address: str) -> tuple[str, int]:
    host, port = address.removeprefix("tcp://").rsplit(":", 1)
    return host, int(port)
