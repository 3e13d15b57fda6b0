"""A server of HTTP for tests of webhooks."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from dnstrail_findings.writers.webhook import Url, parse_url
from live.workers import BOUND

OK = b"HTTP/1.1 204 No Content\r\n\r\n"
Answer = Callable[[socket.socket], None]


class Server:
    """A server that holds what it received."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> Url:
        """The URL of the server."""
        return parse_url(f"http://127.0.0.1:{self.port}/in?x=1")


@contextmanager
def serving(answer: bytes | Answer, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve connections until the end of the block: read a request if the answer is bytes, else let `answer` act."""
    server, stop = Server(), threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    server.port = listener.getsockname()[1]

    def serve() -> None:
        while not stop.is_set():
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(BOUND)
                    handle(connection if context is None else context.wrap_socket(connection, server_side=True))

    def handle(connection: socket.socket) -> None:
        with connection:
            if callable(answer):
                answer(connection)
                return
            server.requests.append(read_request(connection))
            connection.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield server
    stop.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(BOUND)


def read_request(connection: socket.socket) -> bytes:
    """Return a request with its whole body."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1 << 16)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(int(line.split()[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(1 << 16)
    return head + b"\r\n\r\n" + body
