"""A command for `dnstrail run --enforce`, its resolver, and its ally, which answers in the name of this resolver.

Run as `resolver ADDRESS`, `ally ADDRESS`, `command ADDRESS FORM TRIES`, or `exceed ADDRESS BOUND SIZE`. The last two
print the results of their connections. The name in a question states the form and the number of a try. The true answer
leads to the allowed address of this number, and a forged answer to the other address. On the host of the resolver,
forged packets look as those of the resolver.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from live.attempts import allowed_address, connect, other_address, result
from live.tcp_segments import send_segment, sequences

ALLY, ALLY_PORT = "10.96.0.1", 5300  # where the ally hears the command: the list allows it
DEVICE = "ally0"  # the interface of the client that leads to the ally
BLIND = ("opening", "open")  # connections over TCP to a resolver, into which the ally sends a segment
SILENT = "10.99.0.77"  # a resolver that no packet reaches
HELD = "held"  # questions that the resolver answers when it is released
RELEASE = b"release"
_PATIENCE = 10.0  # seconds
_BIND_TO_DEVICE = 25
_BUFFER, _LARGE = 33, 1 << 25  # SO_RCVBUFFORCE, and bytes


def question(name: str, identity: int, kind: int = 1, extra: bytes = b"") -> bytes:
    """Return a question; `extra` is an additional record."""
    return struct.pack("!6H", identity, 0x0100, 1, 0, 0, bool(extra)) + _asked(name, kind) + extra


def answer(asked: bytes, *addresses: str, identity: int | None = None, name: str = "") -> bytes:
    """Return an answer to a question, with its id and name or with others."""
    number = int.from_bytes(asked[:2], "big") if identity is None else identity
    end = asked.index(0, 12) + 5
    section = _asked(name, 1) if name else asked[12:end]
    head = struct.pack("!6H", number, 0x8180 if addresses else 0x8183, 1, len(addresses), 0, 0)
    return head + section + b"".join(map(_record, addresses))


def _asked(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label for label in name.encode().split(b"."))
    return labels + b"\0" + struct.pack("!HH", kind, 1)


def _record(address: str) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    return b"\xc0\x0c" + struct.pack("!HHIH", 28 if ":" in address else 1, 1, 60, len(packed)) + packed


def _wide(which: int) -> list[str]:
    """Return 249 addresses."""
    return [f"10.98.{which + 100}.{last + 1}" for last in range(249)]


# What the resolver and the ally on its host send: form -> answers, for the question, the true and the other address.
Answers = Callable[[bytes, str, str], list[bytes]]
FORGED: dict[str, Answers] = {
    "id": lambda q, true, other: [answer(q, other, identity=_next(q)), answer(q, true)],
    "name": lambda q, true, other: [answer(q, other, name="x.allowed.test"), answer(q, true)],
    "both": lambda q, true, other: [answer(q, true), answer(q, other, identity=_next(q), name="x.allowed.test")],
    "kind": lambda q, true, other: [answer(q[:-3] + b"\x1c\0\1", other), answer(q, true)],
}
CONFLICTS: dict[str, Answers] = {
    "after": lambda q, true, other: [answer(q, true), answer(q, other)],
    "before": lambda q, true, other: [answer(q, other), answer(q, true)],
    "nothing": lambda q, true, other: [answer(q, other), answer(q)],
    "subset": lambda q, true, other: [answer(q, true, other), answer(q, true)],
}
HONEST: dict[str, Answers] = {
    "usual": lambda q, true, other: [answer(q, true)],
    "copied": lambda q, true, other: [answer(q, true, other), answer(q, other, true)],
    "case": lambda q, true, other: [answer(q[:12] + q[12:].upper(), true)],
    "extended": lambda q, true, other: [answer(q, true)],
}
_NOTHING: dict[str, Answers] = {form: lambda q, true, other: [answer(q[:-6])] for form in BLIND}
_ANSWERS = FORGED | CONFLICTS | HONEST | _NOTHING
_EXTENDED = b"\0\0\x29\x10\0\0\0\0\0\0\0"  # the record of EDNS


def _next(asked: bytes) -> int:
    return (int.from_bytes(asked[:2], "big") + 1) % 65536


def name_of(message: bytes) -> str:
    """Return the name in the question of a message, in lower case."""
    at, labels = 12, []
    while message[at]:
        labels.append(message[at + 1 : at + 1 + message[at]].decode().lower())
        at += message[at] + 1
    return ".".join(labels)


def _parts(asked: bytes) -> tuple[str, int]:
    label = name_of(asked).partition(".")[0]
    form = label.rstrip("0123456789")
    return form, int(label[len(form) :])


class Resolver:
    """A resolver and its forger: the answers to each question, of which some are held until they are released."""

    def __init__(self) -> None:
        self._held: list[tuple[bytes, str]] = []
        self._times: Counter[bytes] = Counter()

    def answers(self, asked: bytes) -> list[bytes]:
        """Return what is sent for a datagram."""
        if not asked:  # of the launcher
            return []
        if asked == RELEASE:
            return self._release()
        if len(asked) < len(RELEASE):  # no question
            return [answer(question("unasked.allowed.test", 7), other_address(4, int.from_bytes(asked, "big")))]
        self._times[asked] += 1
        form, number = _parts(asked)
        return self._answers(asked, form, allowed_address(4, number), other_address(4, number))

    def _answers(self, asked: bytes, form: str, true: str, other: str) -> list[bytes]:
        if form == HELD:
            self._held.append((asked, true))
        elif form == "late":  # is answered twice, at first with the other address
            self._held.append((asked, true))
            return [answer(asked, other)]
        elif form == "wide":  # the same addresses for all questions, and others each time
            return [answer(asked, *_wide(self._times[asked]), true)]
        elif form == "twice" and self._times[asked] == 2:
            return [answer(asked, true), answer(asked, other)]
        return _ANSWERS[form](asked, true, other) if form in _ANSWERS else []

    def _release(self) -> list[bytes]:
        held, self._held = self._held, []
        return [answer(asked, true) for asked, true in held]


def serve(address: str) -> None:
    """Answer as a resolver and its forger. Over TCP, connections are accepted, and never answered."""
    resolver = Resolver()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.SOL_SOCKET, _BUFFER, _LARGE)
    datagrams.bind((address, 53))
    with socket.create_server((address, 53), backlog=4096):
        print("ready", flush=True)
        while True:
            asked, peer = datagrams.recvfrom(512)
            if asked and _is_blind(asked):
                _send_answer(SILENT if _parts(asked)[0] == "opening" else address, peer[0], asked)
            for each in resolver.answers(asked):
                datagrams.sendto(each, peer)


def _is_blind(asked: bytes) -> bool:
    return len(asked) >= len(RELEASE) and asked != RELEASE and _parts(asked)[0] in BLIND


def _send_answer(source: str, target: str, asked: bytes) -> None:
    """Send an answer in a TCP segment that acknowledges nothing. The question states its port and sequence number."""
    port, sequence = struct.unpack("!HI", asked[-6:])
    found = answer(asked[:-6], other_address(4, _parts(asked)[1]))
    send_segment((source, 53), (target, port), sequence, 0, len(found).to_bytes(2, "big") + found)


def ally(address: str) -> None:
    """Answer in the name of the resolver from another host: what it hears, and over TCP what is asked of it."""
    hearing, forging = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    hearing.bind((ALLY, ALLY_PORT))
    forging.bind((address, 53))
    server = socket.create_server((address, 53))
    print("ready", flush=True)
    while True:
        for ready in select.select([hearing, forging, server], [], [])[0]:
            if ready is server:
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    asked = connection.recv(512)[2:]
                    found = answer(asked, other_address(4, _parts(asked)[1]))
                    connection.sendall(len(found).to_bytes(2, "big") + found)
            else:
                asked, peer = ready.recvfrom(512)
                if asked:  # else dnstrail finds its way to a resolver of this namespace
                    forging.sendto(answer(asked, other_address(4, _parts(asked)[1])), peer)


class Asker:
    """The command: a socket that asks the resolver, and waits for answers."""

    def __init__(self, resolver: str, *, device: str = "") -> None:
        self.resolver = resolver, 53
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(_PATIENCE)
        self.socket.setsockopt(socket.SOL_SOCKET, _BUFFER, _LARGE)
        if device:  # as any user may
            self.socket.setsockopt(socket.SOL_SOCKET, _BIND_TO_DEVICE, device.encode())

    def ask(self, name: str, identity: int, answers: int, *, to: tuple[str, int] | None = None, times: int = 1) -> None:
        """Ask for a name, and wait for a number of answers."""
        for _ in range(times):
            self.socket.sendto(question(name, identity), to or self.resolver)
        self.receive(answers)

    def receive(self, answers: int) -> None:
        """Wait for a number of datagrams."""
        for _ in range(answers):
            self.socket.recv(65535)


def _try(asker: Asker, form: str, number: int) -> None:
    """Make the ally answer in one form, and wait until all of its packets have arrived."""
    name = f"{form}{number}.allowed.test"
    if form in FORGED or form in CONFLICTS or form == "copied":
        asker.ask(name, number, 2)
    elif form == "extended":
        asker.socket.sendto(question(name, number, extra=_EXTENDED), asker.resolver)
        asker.receive(1)
    elif form == "unasked":
        asker.socket.sendto(number.to_bytes(2, "big"), asker.resolver)
        asker.receive(1)
    elif form == "elsewhere":  # it asks the resolver, too, which answers nothing
        asker.ask(name, number, 0)
        asker.ask(name, number, 1, to=(ALLY, ALLY_PORT))
    elif form == "twice":
        asker.ask(name, number, 2, times=2)
    else:
        asker.ask(name, number, 1)


def _stream(resolver: str, number: int) -> None:
    """Ask over TCP by the interface of the ally."""
    asked = question(f"stream{number}.allowed.test", number)
    with socket.socket() as made:
        made.settimeout(_PATIENCE)
        made.setsockopt(socket.SOL_SOCKET, _BIND_TO_DEVICE, DEVICE.encode())
        made.connect((resolver, 53))
        made.sendall(len(asked).to_bytes(2, "big") + asked)
        while made.recv(512):
            pass


def _be_sent_a_segment(asker: Asker, form: str, number: int) -> None:
    """Connect to the resolver over TCP, and let the ally send a segment: before the resolver answers, or later."""
    with socket.socket() as made:
        made.settimeout(_PATIENCE)
        made.bind(("", 0))
        sequence = 0
        if form == "open":
            made.connect(asker.resolver)
            _, sequence = sequences(made)
        else:
            made.setblocking(False)
            made.connect_ex((SILENT, 53))
        asked = question(f"{form}{number}.allowed.test", number)
        asker.socket.sendto(asked + struct.pack("!HI", made.getsockname()[1], sequence), asker.resolver)
        asker.receive(1)  # behind the segment


def _exceed(asker: Asker, bound: str, size: int) -> None:
    """Exceed a bound: of open questions, of answers with many addresses, or of answers to one question."""
    if bound == "open":  # all are answered
        for number in range(size):
            asker.ask(f"{HELD}{number}.allowed.test", number, 0)
        asker.socket.sendto(RELEASE, asker.resolver)
        asker.receive(size)
    elif bound == "questions":  # the first is answered
        asker.ask(f"{HELD}0.allowed.test", 0, 0)
        for number in range(size):
            asker.ask(f"ignored{number}.allowed.test", number % 65536, 0)
        asker.socket.sendto(RELEASE, asker.resolver)
        asker.receive(1)
    elif bound == "answers":  # the first one has a second answer, which differs
        asker.ask("late0.allowed.test", 0, 1)
        for number in range(size):
            asker.ask(f"wide{number}.allowed.test", number, 1)
        asker.socket.sendto(RELEASE, asker.resolver)
        asker.receive(1)
    else:
        for _ in range(size):
            asker.ask("wide0.allowed.test", 0, 1)


def exceed(resolver: str, bound: str, size: int) -> list[str]:
    """Exceed a bound; return the results for the true addresses of the first question, and of all that are open."""
    _exceed(Asker(resolver), bound, size)
    numbers = (0, size // 2, size - 1) if bound == "open" else (0,)
    return [result(lambda number=number: connect(4, allowed_address(4, number))) for number in numbers]


def command(resolver: str, form: str, tries: int) -> dict[str, Counter[str]]:
    """Try to reach the other address of each number, and its true one; return the results of both."""
    found: dict[str, Counter[str]] = {"other": Counter(), "true": Counter()}
    asker = Asker(resolver, device=DEVICE if form == "device" else "")
    for number in range(tries):
        if form == "stream":
            _stream(resolver, number)
        elif form in BLIND:
            _be_sent_a_segment(asker, form, number)
        else:
            _try(asker, form, number)
        found["other"][result(lambda number=number: connect(4, other_address(4, number)))] += 1
        found["true"][result(lambda number=number: connect(4, allowed_address(4, number)))] += 1
    return found


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    if role == "resolver":
        serve(*arguments)
    elif role == "ally":
        ally(*arguments)
    else:
        address, what, count = arguments
        print(json.dumps((exceed if role == "exceed" else command)(address, what, int(count))))
