"""A command for `dnstrail run --enforce`: makes connections in many ways, and prints the result of each as JSON.

Arguments: the number of allowed connections, and of others. The address of each is a different one, so that each answer
is followed by the first connection to its address. It runs without the packages of the tests.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable

PORT = 80
FOREIGN = {4: "10.99.0.3", 6: "fd99::3"}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_FASTOPEN_CONNECT = 30  # of TCP
_PATIENCE = 10.0  # seconds


def allowed_name(version: int, number: int) -> str:
    """Return the name of an address that the list allows."""
    return f"n{number}.v{version}.allowed.test"


def other_name(version: int, number: int) -> str:
    """Return the name of an address that the list does not allow."""
    return f"n{number}.v{version}.other.test"


def allowed_address(version: int, number: int) -> str:
    """Return an address that an allowed name has."""
    return f"10.98.{number // 250}.{number % 250 + 1}" if version == 4 else f"fd98::{number + 1:x}"


def other_address(version: int, number: int) -> str:
    """Return an address that no allowed name has."""
    return f"10.97.{number // 250}.{number % 250 + 1}" if version == 4 else f"fd97::{number + 1:x}"


def connect(version: int, address: str, port: int = PORT) -> None:
    """Connect over TCP."""
    with _socket(version) as made:
        made.connect((address, port))


def _socket(version: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
    made = socket.socket(_FAMILIES[version], kind)
    made.settimeout(_PATIENCE)
    return made


def _named(version: int, number: int) -> None:
    (first, *_) = socket.getaddrinfo(other_name(version, number), PORT, _FAMILIES[version], socket.SOCK_STREAM)
    connect(version, first[4][0])


def _foreign(version: int, number: int) -> None:
    name = b"".join(bytes([len(label)]) + label for label in allowed_name(version, number).encode().split(b"."))
    question = bytes([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]) + name + bytes([0, 0, 1 if version == 4 else 28, 0, 1])
    for asks in (
        lambda: _sent(version, FOREIGN[version], 53, question),
        lambda: connect(version, FOREIGN[version], 53),
    ):
        if result(asks) != "EPERM":
            raise OSError(errno.EALREADY, "a foreign resolver was asked")
    connect(version, other_address(version, number))


def _sent(version: int, address: str, port: int, data: bytes = b"x") -> None:
    with _socket(version, socket.SOCK_DGRAM) as made:
        made.sendto(data, (address, port))


def _datagram(version: int, number: int) -> None:
    _sent(version, other_address(version, number), PORT)


def _connected_datagram(version: int, number: int) -> None:
    with _socket(version, socket.SOCK_DGRAM) as made:
        made.connect((other_address(version, number), PORT))
        made.send(b"x")


def _second_datagram(version: int, number: int) -> None:
    """Send from a socket that is connected to an allowed address."""
    with _socket(version, socket.SOCK_DGRAM) as made:
        made.connect((allowed_address(version, 0), PORT))
        made.sendto(b"x", (other_address(version, number), PORT))


def _mapped(version: int, number: int) -> None:
    """Use an IPv4-mapped address; over TCP or, for version 6, over UDP."""
    address = f"::ffff:{other_address(4, number)}"
    if version == 4:
        connect(6, address)
    else:
        _sent(6, address, PORT)


def _fast(version: int, number: int) -> None:
    with _socket(version) as made:
        made.sendto(b"x", socket.MSG_FASTOPEN, (other_address(version, number), PORT))


def _fast_connect(version: int, number: int) -> None:
    with _socket(version) as made:
        made.setsockopt(socket.IPPROTO_TCP, _FASTOPEN_CONNECT, 1)
        made.connect((other_address(version, number), PORT))
        made.send(b"x")


def _without_blocking(version: int, number: int) -> None:
    with _socket(version) as made:
        made.setblocking(False)
        made.connect((other_address(version, number), PORT))


def _grandchild(version: int, number: int) -> None:
    """Connect from a process that has left its session, and whose parent has ended."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, result(lambda: connect(version, other_address(version, number))).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        found = pipe.read()
    if found != "ok":
        raise OSError(getattr(errno, found), found)


def _other_namespace(version: int, number: int) -> None:
    """Connect from a network namespace of its own; what leads nowhere must still be refused."""
    script = f"{__file__} connect {version} {other_address(version, number)}"
    found = subprocess.run(
        ["unshare", "-Urn", "sh", "-c", f"ip link set lo up; {sys.executable} {script}"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    raise OSError(getattr(errno, found.strip(), errno.EALREADY), found)


WAYS: tuple[Callable[[int, int], None], ...] = (
    lambda version, number: connect(version, other_address(version, number)),
    _named,
    _foreign,
    _datagram,
    _connected_datagram,
    _second_datagram,
    _mapped,
    _fast,
    _fast_connect,
    _without_blocking,
    _grandchild,
    lambda version, number: connect(version, allowed_address(version, number), 81),
)
# Sockets that pass by the hooks of connect: raw, ICMP, MPTCP, UDP-Lite.
SOCKETS = ((2, 3, 1), (10, 3, 58), (2, 3, 255), (2, 1, 262), (10, 1, 262), (2, 2, 136))


# An own port 53: of a resolver, of every address, of another one; another port.
BINDS = (("10.99.0.10", 53), ("0.0.0.0", 53), ("::", 53), ("::ffff:0.0.0.0", 53), ("10.99.0.2", 53), ("0.0.0.0", 54))


def _bind(address: str, port: int) -> None:
    with _socket(6 if ":" in address else 4, socket.SOCK_DGRAM) as made:
        made.bind((address, port))


def result(attempt: Callable[[], object]) -> str:
    """Return "ok", the name of the error, or "no name"."""
    try:
        attempt()
    except socket.gaierror:
        return "no name"
    except TimeoutError:
        return "ETIMEDOUT"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "ok"


def _allowed(number: int) -> None:
    version = 4 if number % 2 else 6
    with socket.create_connection((allowed_name(version, number), PORT), timeout=_PATIENCE):
        pass


def main(allowed: int, others: int) -> None:
    """Make all connections."""
    passed = Counter(result(lambda number=number: _allowed(number)) for number in range(allowed))
    refused: dict[str, Counter[str]] = {}
    for number in range(others):
        way, version = WAYS[number // 2 % len(WAYS)], 4 if number % 2 else 6
        found = refused.setdefault(f"{WAYS.index(way)} {way.__name__} IPv{version}", Counter())
        found[result(lambda way=way, version=version, number=number: way(version, number))] += 1
    sockets = {str(made): result(lambda made=made: socket.socket(*made).close()) for made in SOCKETS}
    binds = [result(lambda end=end: _bind(*end)) for end in BINDS]
    namespace = result(lambda: _other_namespace(4, 0)), result(lambda: _other_namespace(6, 0))
    found = {"passed": passed, "refused": refused, "sockets": sockets, "binds": binds, "namespace": namespace}
    print(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1] == "connect":
        print(result(lambda: connect(int(sys.argv[2]), sys.argv[3])))
    else:
        main(int(sys.argv[1]), int(sys.argv[2]))
