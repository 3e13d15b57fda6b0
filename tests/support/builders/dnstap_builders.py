"""dnstap as resolvers write it, built with protobuf's own library: the oracle of the probe's reader."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import dnstap_pb

from live.processes import PATIENCE, wait_until

READY = struct.pack("!IIIII", 0, 34, 4, 1, 22) + b"protobuf:dnstap.Dnstap"
START = struct.pack("!IIIII", 0, 34, 2, 1, 22) + b"protobuf:dnstap.Dnstap"
ACCEPT = struct.pack("!IIIII", 0, 34, 1, 1, 22) + b"protobuf:dnstap.Dnstap"
STOP = struct.pack("!III", 0, 4, 3)
FINISH = struct.pack("!III", 0, 4, 5)

WHOLE: dict[str, Any] = {
    "socket_family": "INET",
    "socket_protocol": "DOT",
    "query_address": bytes([192, 0, 2, 1]),
    "response_address": bytes([192, 0, 2, 53]),
    "query_port": 40000,
    "response_port": 853,
    "query_time_sec": 1_700_000_000,
    "query_time_nsec": 5,
    "response_time_sec": 1_700_000_001,
    "response_time_nsec": 7,
}


def tap(kind: str = "CLIENT_RESPONSE", identity: bytes = b"", **fields: Any) -> bytes:
    """Return one message as dnstap: the fields of its Message, enumerations by their names."""
    made = dnstap_pb.Dnstap(type="MESSAGE", message=dnstap_pb.Message(type=kind, **fields))
    if identity:
        made.identity = identity
    return made.SerializeToString()


def framed(*frames: bytes) -> bytes:
    """Return data frames in wire form."""
    return b"".join(struct.pack("!I", len(frame)) + frame for frame in frames)


def tapped_in(path: Path) -> list[tuple[int, int, int, bytes]]:
    """Return time, source port, destination port and payload of each complete message in a dnstap file."""
    data, at, found = path.read_bytes(), len(START), []
    assert data.startswith(START)
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        frame, at = data[at + 4 : at + 4 + length], at + 4 + length
        if not length or at > len(data):  # STOP, or cut short
            break
        message = dnstap_pb.Dnstap.FromString(frame).message
        if dnstap_pb.Message.Type.Name(message.type).endswith("QUERY"):
            stamp = message.query_time_sec * 10**9 + message.query_time_nsec
            found.append((stamp, message.query_port, message.response_port, message.query_message))
        else:
            stamp = message.response_time_sec * 10**9 + message.response_time_nsec
            found.append((stamp, message.response_port, message.query_port, message.response_message))
    assert found
    return found


class Writer:
    """A resolver's end of a dnstap socket."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.close()
            raise

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def told(self, size: int = 1024) -> bytes:
        """Return the next bytes of the reader; b"" after it closed."""
        return self.socket.recv(size)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def first_writer(path: Path) -> Writer:
    """Return a writer as soon as the probe listens: its socket exists a moment before that."""
    writers: list[Writer] = []

    def connected() -> bool:
        with suppress(FileNotFoundError, ConnectionRefusedError):
            writers.append(Writer(path))
        return bool(writers)

    wait_until(connected, f"a probe at {path}")
    return writers[0]
