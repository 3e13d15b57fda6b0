"""The server of metrics and health: a thread with a bounded number of connections.

It is our own, since strangers connect to it: the servers of libraries bound neither connections nor time.
"""

from __future__ import annotations

import re
import selectors
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

from prometheus_client import PROCESS_COLLECTOR
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from dnstrail.errors import BusError
from dnstrail.metrics.board import Board
from dnstrail.metrics.families import counters

MOST_BYTES = 8192  #: bytes of a request for metrics -> status 431
PATIENCE = 5.0  #: seconds of one connection to the server of metrics -> it is closed: `late`
_AT_ONCE = 65536  # bytes
_REQUEST = re.compile(rb"(GET|HEAD) (/[!-~]*) HTTP/1\.[01]\r?\n", re.ASCII)
_END = re.compile(rb"\r?\n\r?\n")
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 431: "Too Long", 503: "Service Unavailable"}
MOST_CONNECTIONS = 16  #: connections to the server of metrics of a worker -> the oldest is closed: `crowded`
_WAITING = 1024  # connections that the kernel holds until they are accepted
_ACCEPTED_AT_ONCE = 16
_POLL = 0.1  # seconds between two looks at deadlines and at the stop signal
_REST = 0.01  # seconds without a step after one that closed connections by force: a flood must not delay the worker


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


class MetricsServer:
    """Answers /metrics, /healthz and /readyz in a thread of its own, from a board.

    At most MOST_CONNECTIONS are open: a further one closes the oldest. Each ends after PATIENCE. `closed` counts the
    connections that were closed by force, by reason.
    """

    def __init__(self, address: tuple[str, int], board: Board, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.closed: Counter[str] = Counter(crowded=0, late=0)
        self._board = board
        self._monotonic = monotonic
        self._exchanges: OrderedDict[int, Exchange] = OrderedDict()  # by descriptor, the oldest first
        self._text = b""
        self._made: list[Metric] = []
        self._selector = selectors.DefaultSelector()
        self._listener = _listen(address)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, and close all connections."""
        self._stop.set()
        self._thread.join()
        for exchange in self._exchanges.values():
            exchange.close()
        self._listener.close()
        self._selector.close()

    def step(self, timeout: float) -> None:
        """Serve what is ready, or becomes ready within `timeout` seconds."""
        before = self.closed.total()
        ready = {key.fd for key, _ in self._selector.select(timeout)}
        for exchange in [exchange for number, exchange in self._exchanges.items() if number in ready]:
            self._go_on(exchange)  # before further connections may close it
        if self._listener.fileno() in ready:
            self._accept()
        for exchange in self._late():
            self._end(exchange, "late")
        if self.closed.total() > before:
            self._stop.wait(_REST)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.step(_POLL)

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # none waits, or no descriptor is left
                return
            connection.setblocking(False)
            if len(self._exchanges) >= MOST_CONNECTIONS:
                self._end(next(iter(self._exchanges.values())), "crowded")
            exchange = Exchange(connection, self._monotonic() + PATIENCE)
            self._exchanges[connection.fileno()] = exchange
            self._selector.register(connection, selectors.EVENT_READ)
            self._go_on(exchange)

    def _go_on(self, exchange: Exchange) -> None:
        exchange.go_on(self._respond)
        if exchange.done:
            self._end(exchange)
        elif exchange.sends:
            self._selector.modify(exchange.connection, selectors.EVENT_WRITE)

    def _late(self) -> list[Exchange]:
        now = self._monotonic()
        return [exchange for exchange in self._exchanges.values() if exchange.deadline <= now]

    def _end(self, exchange: Exchange, reason: str = "") -> None:
        if reason:
            self.closed[reason] += 1
        self._selector.unregister(exchange.connection)
        del self._exchanges[exchange.connection.fileno()]
        exchange.close()

    def _respond(self, path: str) -> Response:
        if path == "/metrics":
            return self._metrics()
        if path == "/healthz":
            fault = "the main loop stands still" if self._board.hangs else ""
        elif path == "/readyz":
            fault = self._board.unready()
        else:
            return Response(404, b"/metrics, /healthz and /readyz are served\n")
        return Response(503 if fault else 200, f"{fault or 'ok'}\n".encode())

    def _metrics(self) -> Response:
        """Return the metrics as text. The text of the same metrics is made once."""
        metrics = self._board.metrics()
        if metrics is None:
            return Response(503, b"the main loop does not report\n")
        if metrics is not self._made:
            self._text, self._made = _text_of(self._all(metrics)), metrics
        return Response(200, self._text, CONTENT_TYPE_PLAIN_0_0_4)

    def _all(self, metrics: Iterable[Metric]) -> Iterator[Metric]:
        yield from metrics
        yield from PROCESS_COLLECTOR.collect()
        yield closed_by_force(self.closed)


def closed_by_force(closed: Mapping[str, int]) -> Metric:
    """Return the metric of the server itself."""
    text = "Connections to the server of metrics that were closed by force."
    return counters("dnstrail_metrics_connections_closed", text, "reason", closed)


def _listen(address: tuple[str, int]) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        listener = socket.create_server(address, family=family, backlog=_WAITING)
    except OSError as error:
        raise BusError(f"--metrics {address[0]}:{address[1]}", error.strerror or str(error)) from error
    listener.setblocking(False)
    return listener


def _text_of(metrics: Iterator[Metric]) -> bytes:
    registry: Any = SimpleNamespace(collect=lambda: metrics)
    return generate_latest(registry)
