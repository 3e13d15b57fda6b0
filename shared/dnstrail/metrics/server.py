"""The server of metrics and health: a thread with a bounded number of connections.

It is our own, since strangers connect to it: the servers of libraries bound neither connections nor time.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from prometheus_client import PROCESS_COLLECTOR
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from dnstrail.errors import BusError
from dnstrail.metrics.board import Board
from dnstrail.metrics.exchange import PATIENCE, Exchange, Response
from dnstrail.metrics.families import counters

MOST_CONNECTIONS = 16  #: connections to the server of metrics of a worker -> the oldest is closed: `crowded`
_WAITING = 1024  # connections that the kernel holds until they are accepted
_ACCEPTED_AT_ONCE = 16
_POLL = 0.1  # seconds between two looks at deadlines and at the stop signal
_REST = 0.01  # seconds without a step after one that closed connections by force: a flood must not delay the worker


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
