"""A command for `dnstrail run --enforce --check-server-name` that states names in many forms, and servers.

Run as `serve FOLDER` (TLS on 443, HTTP on 8080, and 9000, which logs what arrives first), as `forms TRIES`, which
prints the results of each form as JSON, or as `clients TRIES`, which prints those of TLS of OpenSSL.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from live.attempts import allowed_name

NAME, OTHER = "shared.test", "fourth.test"  # of one address, which the list has for the first
HIDDEN, COVER = "hidden.test", "cover.test"  # an allowed name of this address, and the outer name of its ClientHellos
TLS, HTTP, RAW = 443, 8080, 9000
LONGEST = 6_144  # bytes of a header that is read
_PATIENCE = 20.0
_FASTOPEN = 0x20000000  # a flag of send


def https_records() -> tuple[str, ...]:
    """Return the options of dnsmasq for records of HTTPS: NAME is reached by QUIC, too, and HIDDEN has a key of ECH."""
    key = bytes([9]).ljust(32, b"\0")  # of X25519
    config = struct.pack("!BHH", 7, 0x20, len(key)) + key + struct.pack("!HHHBB", 4, 1, 1, 32, len(COVER))
    config += COVER.encode() + bytes(2)
    configs = struct.pack("!HHH", len(config) + 4, 0xFE0D, len(config)) + config
    return _https_record(NAME, 1, b"\x02h3\x08http/1.1"), _https_record(HIDDEN, 5, configs)


def _https_record(name: str, key: int, value: bytes) -> str:
    """Return the option of dnsmasq for a record of HTTPS with one parameter."""
    return f"--dns-rr={name},65,{(struct.pack('!HBHH', 1, 0, key, len(value)) + value).hex()}"


def hello(name: str | None) -> bytes:
    """Return a ClientHello of OpenSSL, as one record."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    out = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


def _renamed(name: bytes) -> bytes:
    """Return a ClientHello with a name of the same length as NAME."""
    assert len(name) == len(NAME)
    return hello(NAME).replace(NAME.encode(), name)


def _with_extensions(extra: bytes) -> bytes:
    """Return a ClientHello with further extensions behind its own."""
    made = bytearray(hello(NAME))
    at = 44 + made[43]
    at += 2 + int.from_bytes(made[at : at + 2], "big")
    at += 1 + made[at]
    for place, size in ((3, 2), (6, 3), (at, 2)):
        length = int.from_bytes(made[place : place + size], "big") + len(extra)
        made[place : place + size] = length.to_bytes(size, "big")
    return bytes(made) + extra


def _server_name(name: str) -> bytes:
    return struct.pack("!HHHBH", 0, len(name) + 5, len(name) + 3, 0, len(name)) + name.encode()


def _in_records() -> bytes:
    made = hello(NAME)
    first, rest = made[5:100], made[100:]
    return b"".join(made[:3] + struct.pack("!H", len(part)) + part for part in (first, rest))


def request(*fields: str, target: str = "/", method: str = "GET") -> bytes:
    """Return a request of HTTP/1.1."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", *fields, "", ""]).encode()


def padded(size: int) -> bytes:
    """Return a request whose header has this size."""
    usual = request(f"Host: {NAME}", "X: ")
    return usual[:-4] + b"x" * (size - len(usual)) + usual[-4:]


# First bytes that state no allowed name, whatever the rest.
UNSTATED: dict[str, Callable[[], bytes]] = {
    "hello name": lambda: hello(OTHER),
    "hello none": lambda: hello(None),
    "hello below": lambda: hello(f"x.{NAME}"),
    "hello zero": lambda: _with_name(b"\0" + NAME.encode()),
    "hello cut": lambda: hello(NAME)[:-1],
    "hello one byte": lambda: hello(NAME)[:1],
    "hello records": _in_records,
    "hello two names": lambda: _with_extensions(_server_name(OTHER)),
    "hello many extensions": lambda: _with_extensions(b"\xfa\xfa\0\0" * 64),
    "hello type": lambda: _renamed(NAME.encode()).replace(b"\x01\x00", b"\x02\x00", 1),
    "request name": lambda: request(f"Host: {OTHER}"),
    "request none": lambda: request("Accept: */*"),
    "request absolute": lambda: request(f"Host: {NAME}", target=f"http://{OTHER}/"),
    "request connect": lambda: request(f"Host: {NAME}", target=f"{OTHER}:443", method="CONNECT"),
    "request two names": lambda: request(f"Host: {NAME}", f"Host: {OTHER}"),
    "request user": lambda: request(f"Host: {NAME}@{OTHER}"),
    "request folded": lambda: request(f"Host: {NAME}", f" {OTHER}"),
    "request space": lambda: request(f"Host : {OTHER}", f"Host: {NAME}"),
    "request line feed": lambda: request(f"X: y\nHost: {OTHER}", f"Host: {NAME}"),
    "request return": lambda: request(f"X: y\rHost: {OTHER}", f"Host: {NAME}"),
    "request zero": lambda: request("X: \0", f"Host: {NAME}"),
    "request cut": lambda: request(f"Host: {NAME}")[:-1],
    "request one byte": lambda: b"G",
    "request long": lambda: padded(LONGEST + 1),
    "request old": lambda: b"GET /\r\n",
    "request two": lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "bytes banner": lambda: b"SSH-2.0-OpenSSH_10.0\r\n",
    "bytes random": lambda: b"\0" + os.urandom(100),
}


def _with_name(name: bytes) -> bytes:
    """Return a ClientHello with a name of one byte more than NAME."""
    return hello(f"x{NAME}").replace(f"x{NAME}".encode(), name)


# First bytes that state the allowed name.
STATED: dict[str, Callable[[], bytes]] = {
    "hello": lambda: hello(NAME),
    "hello case": lambda: _renamed(NAME.title().encode()),
    "hello with more": lambda: hello(NAME) + os.urandom(300),
    "request": lambda: request(f"Host: {NAME}"),
    "request case": lambda: request("Accept: */*", f"hOSt:{NAME.upper()}"),
    "request port": lambda: request(f"Host: {NAME}:{RAW}"),
    "request dot": lambda: request(f"Host: {NAME}."),
    "request body": lambda: request(f"Host: {NAME}", "Content-Length: 4", method="POST") + b"\0\0\0\0",
    "request longest": lambda: padded(LONGEST),
}


def _sent(data: bytes, flags: int = 0) -> float:
    """Send the first bytes of a connection; return the seconds until an echo, or raise at its end."""
    with socket.create_connection((NAME, RAW), timeout=_PATIENCE) as made:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        try:
            made.send(data, flags)
            if not made.recv(1):
                raise ConnectionError(errno.ENODATA, "nothing came back")
        except OSError as error:
            error.add_note(str(time.perf_counter() - began))
            raise
        return time.perf_counter() - began


def _urgent() -> float:
    return _sent(request(f"Host: {NAME}"), socket.MSG_OOB)


def _fast_open() -> float:
    (*_, end), *_ = socket.getaddrinfo(NAME, RAW, socket.AF_INET, socket.SOCK_STREAM)
    with socket.socket() as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(_PATIENCE), 0))
        made.sendto(request(f"Host: {OTHER}"), _FASTOPEN, end)
        made.recv(1)
    return 0.0


def _datagram(*, connected: bool) -> float:
    (*_, end), *_ = socket.getaddrinfo(NAME, TLS, socket.AF_INET, socket.SOCK_DGRAM)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        if connected:
            made.connect(end)
            made.send(b"x")
        else:
            made.sendto(b"x", end)
    return 0.0


def _mapped() -> float:
    (*_, end), *_ = socket.getaddrinfo(NAME, RAW, socket.AF_INET, socket.SOCK_STREAM)
    with socket.socket(socket.AF_INET6) as made:
        made.settimeout(_PATIENCE)
        made.connect((f"::ffff:{end[0]}", RAW))
        made.send(request(f"Host: {OTHER}"))
        made.recv(1)
    return 0.0


def _version6() -> float:
    with socket.create_connection((allowed_name(6, 0), HTTP), timeout=_PATIENCE) as made:
        made.send(request(f"Host: {OTHER}"))
        made.recv(1)
    return 0.0


def _again() -> float:
    """Connect a socket twice: the second connection must state a name, too."""
    (*_, end), *_ = socket.getaddrinfo(NAME, RAW, socket.AF_INET, socket.SOCK_STREAM)
    with socket.socket() as made:
        made.settimeout(_PATIENCE)
        made.connect(end)
        made.send(request(f"Host: {NAME}"))
        made.recv(1)
        _disconnect(made)
        made.connect(end)
        made.send(request(f"Host: {OTHER}"))
        made.recv(1)
    return 0.0


def _disconnect(made: socket.socket) -> None:
    ctypes.CDLL(None, use_errno=True).connect(made.fileno(), bytes(16), 16)  # to AF_UNSPEC


def _namespace() -> float:
    """Connect within a network namespace of its own, which has the address and a server."""
    (*_, end), *_ = socket.getaddrinfo(NAME, RAW, socket.AF_INET, socket.SOCK_STREAM)
    done = subprocess.run(["unshare", "-rn", sys.executable, "-m", "live.stated_names", "within", end[0]], check=False)
    raise OSError(done.returncode, "in the namespace")


def within(address: str) -> int:
    """Serve at an address of this namespace, and state another name there; return the number of the error."""
    for command in (f"addr add {address}/32 dev lo", "link set lo up"):
        subprocess.run(["ip", *command.split()], check=True)
    with socket.create_server((address, RAW)), socket.create_connection((address, RAW), timeout=_PATIENCE) as made:
        try:
            made.send(request(f"Host: {OTHER}"))
            return len(made.recv(1))
        except OSError as error:
            return error.errno or 0


# Other ways to send what states no name.
WAYS: dict[str, Callable[[], float]] = {
    "way urgent": _urgent,
    "way fast open": _fast_open,
    "way mapped": _mapped,
    "way IPv6": _version6,
    "way again": _again,
    "way namespace": _namespace,
    "way datagram": lambda: _datagram(connected=False),
    "way connected datagram": lambda: _datagram(connected=True),
}


def unstated_forms() -> list[str]:
    """Return the forms that state no allowed name."""
    return [*UNSTATED, *WAYS]


def _result(attempt: Callable[[], float]) -> tuple[str, float]:
    try:
        return "ok", attempt()
    except OSError as error:
        after = float(next(iter(getattr(error, "__notes__", ())), 0))
        return errno.errorcode.get(error.errno or 0, str(error)), after


def forms(tries: int) -> dict[str, list[tuple[str, float]]]:
    """Return the results of each form, and the seconds until each."""
    attempts = {form: lambda make=make: _sent(make()) for form, make in UNSTATED.items()} | WAYS
    attempts |= {f"stated {form}": lambda make=make: _sent(make()) for form, make in STATED.items()}
    return {form: [_result(attempt) for _ in range(tries)] for form, attempt in attempts.items()}


def clients(tries: int) -> dict[str, list[tuple[str, float]]]:
    """Return the results of handshakes with the allowed name and another, and the seconds that each took."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def shaken(name: str) -> float:
        with socket.create_connection((NAME, TLS), timeout=_PATIENCE) as made:
            began = time.perf_counter()
            try:
                context.wrap_socket(made, server_hostname=name).close()
            except OSError as error:
                error.add_note(str(time.perf_counter() - began))
                raise
            return time.perf_counter() - began

    return {name: [_result(lambda name=name: shaken(name)) for _ in range(tries)] for name in (NAME, OTHER)}


def print_times(found: dict[str, list[tuple[str, float]]]) -> None:
    """Print how long the handshakes with each name took, and the load."""
    for name, results in found.items():
        times = sorted(after * 1000 for _, after in results)
        print(f"{name}: p99 {times[len(times) * 99 // 100]:.1f} ms, longest {times[-1]:.1f} ms")
    print(f"load {os.getloadavg()[0]:.1f}")


def _serve(folder: Path) -> None:
    """Serve for ever; print a line for each name that arrives."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    context.sni_callback = lambda _made, name, _context: print("tls", name, flush=True)

    def web(made: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (more := made.recv(65536)):
            head += more
        if head:
            print("http", *(line for line in head.decode("latin-1").split("\r\n") if "ost" in line), flush=True)
            made.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n")

    def tls(made: socket.socket) -> None:
        with context.wrap_socket(made, server_side=True) as inner:
            web(inner)

    def raw(made: socket.socket) -> None:
        if data := made.recv(65536):
            print("raw", data.hex(), flush=True)
            made.sendall(b"x")
            made.recv(1)

    def answer(server: socket.socket, talk: Callable[[socket.socket], None]) -> None:
        while True:
            made, _ = server.accept()
            threading.Thread(target=_answer_one, args=[made, talk], daemon=True).start()

    for port, talk in ((TLS, tls), (HTTP, web), (RAW, raw)):
        server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
        threading.Thread(target=answer, args=[server, talk], daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


def _answer_one(made: socket.socket, talk: Callable[[socket.socket], None]) -> None:
    with contextlib.suppress(OSError), made:
        made.settimeout(60)
        talk(made)


if __name__ == "__main__":
    mode, argument = sys.argv[1:]
    if mode == "serve":
        _serve(Path(argument))
    elif mode == "within":
        sys.exit(within(argument))
    else:
        print(json.dumps({"forms": forms, "clients": clients}[mode](int(argument))))
