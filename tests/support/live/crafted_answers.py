"""Crafted answers for `dnstrail run --enforce`: a resolver that sends them, and a command that asks for them.

Each case has an address of its own. The command asks for a case by its number, which is the id of its question, and
then connects to its address. Run as `resolver ADDRESS`, or as `command ADDRESS`, which prints the result of each case.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address

from live.attempts import connect, other_address, result
from live.tcp_segments import send_segment, sequences

ONE = b"\1a\7allowed\4test\0"  # as the list allows it
OTHER = b"\1a\5other\4test\0"
_X, _Y = b"\x3f" + b"x" * 63, b"\x3f" + b"y" * 63
_POINTER = b"\xc0\x0c"
_PATIENCE = 10.0  # seconds
_OUTGOING = 0x5411  # SIOCOUTQ: bytes that the peer has not acknowledged
Answer = Callable[[str], list[bytes]]  # the datagrams or segments, for the address of the case
Segments = tuple[bytes, list[tuple[int, bytes]]]  # the stream that a socket receives; segments by their offsets in it
Raw = Callable[[str], Segments]


def _record(data: bytes, *, owner: bytes = _POINTER, kind: int = 1, group: int = 1) -> bytes:
    return owner + struct.pack("!HHIH", kind, group, 60, len(data)) + data


def _message(name: bytes, *records: bytes, flags: int = 0x8180, questions: int = 1, count: int | None = None) -> bytes:
    head = struct.pack("!6H", 0, flags, questions, len(records) if count is None else count, 0, 0)
    return head + name + struct.pack("!HH", 1, 1) + b"".join(records)


def _one(address: str, *before: bytes) -> bytes:
    return _message(ONE, *before, _record(_packed(address)))


def _packed(address: str) -> bytes:
    return socket.inet_aton(address)


def _framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def _cut(stream: bytes, *places: int) -> list[bytes]:
    return [stream[first:last] for first, last in zip((0, *places), (*places, len(stream)), strict=True)]


def _hidden(address: str) -> list[bytes]:
    """Return an answer about another name; its second segment looks like an answer about an allowed one."""
    inner = _framed(_one(address))
    stream = _framed(_message(OTHER, _record(inner, kind=16)))
    return _cut(stream, stream.index(inner))


_FILLER = _record(_packed("10.97.100.1"))
_ALIAS = _record(OTHER, kind=5)
UDP_TAKEN: dict[str, Answer] = {
    "usual": lambda a: [_one(a)],
    "upper case": lambda a: [_message(b"\1A\7ALLOWED\4teST\0", _record(_packed(a)))],
    "the longest name": lambda a: [_message(_X + _Y + _X + b"\x2e" + b"z" * 46 + ONE, _record(_packed(a)))],
    "behind an alias": lambda a: [_message(ONE, _ALIAS, _record(_packed(a), owner=OTHER))],
    "the last of 256": lambda a: [_one(a, *[_FILLER] * 255)],
    "an IPv4-mapped one": lambda a: [_message(ONE, _record(bytes(10) + b"\xff\xff" + _packed(a), kind=28))],
}
UDP_LEFT: dict[str, Answer] = {
    "the name itself": lambda a: [_message(ONE[2:], _record(_packed(a)))],
    "another name": lambda a: [_message(OTHER, _record(_packed(a)))],
    "a longer label": lambda a: [_message(b"\1a\nnotallowed\4test\0", _record(_packed(a)))],
    "a dot in a label": lambda a: [_message(b"\ta.allowed\4test\0", _record(_packed(a)))],
    "a zero in a label": lambda a: [_message(b"\2a\0" + ONE[2:], _record(_packed(a)))],
    "the root": lambda a: [_message(b"\0", _record(_packed(a)))],
    "too long a name": lambda a: [_message(_X + _Y + _X + b"\x2f" + b"z" * 47 + ONE, _record(_packed(a)))],
    "a compressed question": lambda a: [_message(_POINTER, _record(_packed(a)))],
    "no response": lambda a: [_message(ONE, _record(_packed(a)), flags=0x0100)],
    "an update": lambda a: [_message(ONE, _record(_packed(a)), flags=0xA800)],
    "two questions": lambda a: [_message(ONE, _record(_packed(a)), questions=2)],
    "257 questions": lambda a: [_message(ONE, _record(_packed(a)), questions=257)],
    "another class": lambda a: [_message(ONE, _record(_packed(a), group=3))],
    "another type": lambda a: [_message(ONE, _record(_packed(a), kind=99))],
    "a wrong length": lambda a: [_message(ONE, _record(_packed(a) + b"\0"))],
    "another section": lambda a: [_message(ONE, _record(_packed(a)), count=0)],
    "cut short": lambda a: [_one(a)[:-1]],
    "the last of 257": lambda a: [_one(a, *[_FILLER] * 256)],
    "only a header": lambda a: [_one(a)[:12]],
    "an endless owner": lambda a: [_message(ONE, b"\1x" * 400 + _record(_packed(a)))],
}
TCP_TAKEN: dict[str, Answer] = {
    "a stream": lambda a: [_framed(_one(a))],
    "its length alone": lambda a: _cut(_framed(_one(a)), 2),
    "the last of 17": lambda a: [_framed(_message(ONE, _FILLER)) * 16 + _framed(_one(a))],
    "the second segment": lambda a: [_framed(_message(OTHER, _FILLER)), _framed(_one(a))],
}
TCP_LEFT: dict[str, Answer] = {
    "a record in two segments": lambda a: _cut(_framed(_one(a)), 40),
    "the last of 18": lambda a: [_framed(_message(ONE, _FILLER)) * 17 + _framed(_one(a))],
    "in the text of another": _hidden,
    "its length in two": lambda a: _cut(_framed(_one(a)), 1),
    "one byte each": lambda a: [bytes([each]) for each in _framed(_one(a))],
}
_HONEST = "10.97.100.2"  # of the answer that the socket receives, where another one is made up


def _out_of_order(address: str) -> Segments:
    first, second = _framed(_message(OTHER, _FILLER)), _framed(_one(address))
    return first + second, [(len(first), second), (0, first)]


def _overlapping(address: str) -> Segments:
    first, second = _framed(_message(OTHER, _FILLER)), _framed(_one(address))
    return first + second, [(0, first), (len(first) - 7, (first + second)[len(first) - 7 :])]


def _sent_twice(address: str) -> Segments:
    """Return an answer, and then another one with the same sequence number."""
    return _framed(_one(_HONEST)), [(0, _framed(_one(_HONEST))), (0, _framed(_one(address)))]


def _sent_before(address: str) -> Segments:
    """Return an answer, and before it the end of another one with the same sequence numbers."""
    honest, other = _framed(_one(_HONEST)), _framed(_one(address))
    return honest, [(2, other[2:]), (0, honest)]


RAW_TAKEN: dict[str, Raw] = {"overlapping": _overlapping}
RAW_LEFT: dict[str, Raw] = {"out of order": _out_of_order, "sent twice": _sent_twice, "sent before": _sent_before}
_RAW = {**RAW_TAKEN, **RAW_LEFT}
STRANGER = "from another server"
UDP_LEFT[STRANGER] = lambda a: [_one(a)]
CASES = {**UDP_TAKEN, **UDP_LEFT, **TCP_TAKEN, **TCP_LEFT, **_RAW}
_NAMES = [*CASES]


def address_of(number: int) -> str:
    """Return the address of a case."""
    return other_address(4, 1000 + number)


def stranger_of(address: str) -> str:
    """Return the address of another server on the host of a resolver."""
    return str(ip_address(address) + 1)


def serve(address: str) -> None:
    """Answer as a resolver: the question is the number of a case."""
    datagrams, stranger = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    datagrams.bind((address, 53))
    stranger.bind((stranger_of(address), 53))
    server = socket.create_server((address, 53))
    held: list[socket.socket] = []
    print("ready", flush=True)
    while True:
        for ready in select.select([datagrams, server], [], [])[0]:
            if ready is datagrams:
                question, peer = datagrams.recvfrom(512)
                if not question:  # of the launcher
                    continue
                number = question[:2]
                answers = stranger if _NAMES[int.from_bytes(number, "big")] == STRANGER else datagrams
                for piece in _answer(number):
                    answers.sendto(number + piece[2:], peer)
            else:
                _serve_stream(server.accept()[0], held)


def _serve_stream(connection: socket.socket, held: list[socket.socket]) -> None:
    question = connection.recv(2)
    name = _NAMES[int.from_bytes(question, "big")]
    if name in _RAW:
        held.append(connection)  # its kernel knows nothing of these segments
        sent, received = sequences(connection)
        for offset, data in _RAW[name](address_of(_NAMES.index(name)))[1]:
            send_segment(connection.getsockname(), connection.getpeername(), sent + offset, received, data)
        return
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in _answer(question):
            connection.sendall(piece)
            while int.from_bytes(fcntl.ioctl(connection, _OUTGOING, bytes(4)), sys.byteorder):
                pass  # the next piece is a segment of its own


def _answer(question: bytes) -> list[bytes]:
    number = int.from_bytes(question, "big")
    return CASES[_NAMES[number]](address_of(number))


def _question(number: int) -> bytes:
    """Return the question of a case, with the name in its answer: nothing else keeps the answer from counting."""
    (message,) = CASES[_NAMES[number]](address_of(number))
    name, end, _ = message[12:].partition(b"\0\0\1\0\1")
    if not end or name == _POINTER:
        name, end = ONE, b"\0\1\0\1"
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + name + end


def ask(address: str, name: str) -> str:
    """Ask for a case; return the result of the connection that follows."""
    number = _NAMES.index(name)
    if name in _RAW:
        return _ask_raw(address, number)
    stream = name in TCP_TAKEN or name in TCP_LEFT
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) as made:
        made.settimeout(_PATIENCE)
        if stream:
            made.connect((address, 53))
            made.sendall(number.to_bytes(2, "big"))
        else:
            made.sendto(_question(number), (address, 53))  # not connected: it receives from everyone
        while made.recv(65535) and stream:
            pass
    return result(lambda: connect(4, address_of(number)))


def _ask_raw(address: str, number: int) -> str:
    """Ask for a case of segments that are made by hand; the socket must receive the stream of the case."""
    stream, _ = _RAW[_NAMES[number]](address_of(number))
    received = b""
    with socket.create_connection((address, 53), _PATIENCE) as made:
        made.sendall(number.to_bytes(2, "big"))
        while len(received) < len(stream) and (some := made.recv(65535)):
            received += some
    return result(lambda: connect(4, address_of(number))) if received == stream else "another stream"


def forge(address: str) -> None:
    """Serve the address of the resolver in a network namespace of this process, and ask there."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for own in (address, stranger_of(address)):
        subprocess.run(["ip", "addr", "add", f"{own}/32", "dev", "lo"], check=True)
    ready, serving = os.pipe()
    if (server := os.fork()) == 0:
        os.dup2(serving, 1)
        serve(address)
    os.read(ready, 5)
    ask(address, "a stream")
    os.kill(server, 9)


def main(role: str, address: str) -> None:
    """Be the resolver, the command, or the forger that the command starts."""
    if role == "resolver":
        serve(address)
    elif role == "forger":
        forge(address)
    else:
        forger = ["unshare", "-Urn", sys.executable, "-m", "live.crafted_answers", "forger", address]
        subprocess.run(forger, check=True)
        forged = result(lambda: connect(4, address_of(_NAMES.index("a stream"))))
        print(json.dumps({"forged": forged, **{name: ask(address, name) for name in CASES}}))


if __name__ == "__main__":
    main(*sys.argv[1:])
