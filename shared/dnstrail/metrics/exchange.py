"""One exchange of HTTP/1.1: a bounded request in, one response out (RFC 9112)."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import NamedTuple

#: bytes of a request for metrics -> status 431
MOST_BYTES = 8192
PATIENCE = 5.0  #: seconds of one connection to the server of metrics -> it is closed: `late`
_AT_ONCE = 65536  # bytes
_REQUEST = re.compile(rb"(GET|HEAD) (/[!-~]*) HTTP/1\.[01]\r?\n", re.ASCII)
_END = re.compile(rb"\r?\n\r?\n")
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 431: "Too Long", 503: "Service Unavailable"}


class Response(NamedTuple):
    """The status, the type and the content of a response."""

    status: int
    content: bytes
    type: str = "text/plain; charset=utf-8"


Respond = Callable[[str], Response]  # by the path of the request


class Exchange:
    """One connection: it receives a request, sends the response, and is `done`. Nothing here waits or raises."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.connection = connection
        self.deadline = deadline
        self.done = False
        self._received = b""
        self._unsent: memoryview | None = None

    @property
    def sends(self) -> bool:
        """True once the response is known."""
        return self._unsent is not None

    def go_on(self, respond: Respond) -> None:
        """Receive or send as much as is possible now."""
        try:
            if self._unsent is None:
                self._receive(respond)
            if self._unsent is not None:
                self._unsent = self._unsent[self.connection.send(self._unsent) :]
                self.done = not self._unsent
        except BlockingIOError:
            pass
        except OSError:  # the client has left
            self.done = True

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _receive(self, respond: Respond) -> None:
        received = self.connection.recv(MOST_BYTES + 1 - len(self._received))
        self._received += received
        if _END.search(self._received):
            self._unsent = _answer(self._received, respond)
        elif len(self._received) > MOST_BYTES:
            self._unsent = _encode(Response(431, b"the request is too long\n"))
        elif not received:
            self.done = True


def _answer(request: bytes, respond: Respond) -> memoryview:
    found = _REQUEST.match(request)
    if found is None:
        return _encode(Response(400, b"GET or HEAD is expected\n"))
    path = found[2].decode("ascii").partition("?")[0]
    return _encode(respond(path), head=found[1] == b"HEAD")


def _encode(response: Response, *, head: bool = False) -> memoryview:
    lines = [
        f"HTTP/1.1 {response.status} {_REASONS[response.status]}",
        f"Content-Type: {response.type}",
        f"Content-Length: {len(response.content)}",
        "Connection: close",
    ]
    return memoryview("\r\n".join([*lines, "", ""]).encode() + (b"" if head else response.content))
