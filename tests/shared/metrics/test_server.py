"""The server of metrics, attacked: hanging, garbage and many connections cost bounded memory and delay nobody."""

from __future__ import annotations

import resource
import socket
from contextlib import ExitStack, suppress

import pytest

from dnstrail.errors import BusError
from dnstrail.metrics.board import Board
from dnstrail.metrics.families import gauge
from dnstrail.metrics.server import MOST_BYTES, MOST_CONNECTIONS, PATIENCE, MetricsServer
from live.workers import BOUND, FakeClock, wait_until

GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def board(clock):
    """Return a board whose metrics are always at hand."""
    board = Board(clock.monotonic)
    board.observe(lambda: [gauge("dnstrail_x", "X.", 7)], lambda: "")
    board._wanted.set()
    board.turn()
    return board


@pytest.fixture
def server(clock, board):
    server = MetricsServer(("127.0.0.1", 0), board, clock.monotonic)
    server.start()
    yield server
    server.close()


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=BOUND)


def read(connection):
    """Return all that arrives until the server closes the connection."""
    received = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            received += part
    return received


def ask(server, request):
    with connect(server) as connection:
        connection.sendall(request)
        return read(connection)


def test_metrics_are_text_of_prometheus(server):
    """/metrics returns the metrics of the worker and of its process, and closes the connection."""
    head, _, body = ask(server, GET % b"metrics").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"dnstrail_x 7.0\n" in body
    assert b"process_resident_memory_bytes" in body


def test_head_has_no_content(server):
    """HEAD returns the fields of GET without the content."""
    answer = ask(server, b"HEAD /metrics?x=1 HTTP/1.0\n\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"\r\n\r\n")


def test_health_is_that_of_the_main_loop(server, clock, board):
    """/healthz and /readyz fail once the main loop stands still."""
    assert ask(server, GET % b"healthz").endswith(b"\r\n\r\nok\n")
    assert ask(server, GET % b"readyz").endswith(b"\r\n\r\nok\n")
    clock.advance(60)
    for path in (b"healthz", b"readyz", b"metrics"):
        assert ask(server, GET % path).startswith(b"HTTP/1.1 503 ")
    board.turn()
    assert ask(server, GET % b"healthz").startswith(b"HTTP/1.1 200 ")


def test_a_worker_that_is_not_ready_names_the_reason(server, clock, board):
    """/readyz returns 503 with the reason of the worker, while /healthz is content."""
    board.observe(list, lambda: "no probe")
    clock.advance(1)
    board._wanted.set()
    board.turn()
    assert ask(server, GET % b"readyz").endswith(b"\r\n\r\nno probe\n")
    assert ask(server, GET % b"healthz").startswith(b"HTTP/1.1 200 ")


GARBAGE = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "another method": b"POST /metrics HTTP/1.1\r\n\r\n",
    "another version": b"GET /metrics HTTP/2.0\r\n\r\n",
    "no path": b"GET metrics HTTP/1.1\r\n\r\n",
    "a control character": b"GET /\x00metrics HTTP/1.1\r\n\r\n",
    "a lone line end": b"\n\n",
}


@pytest.mark.parametrize("request_", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_refused(server, request_):
    """A request that is none is answered with 400, and the server goes on."""
    assert ask(server, request_).startswith(b"HTTP/1.1 400 ")
    assert ask(server, GET % b"metrics").startswith(b"HTTP/1.1 200 ")


def test_an_unknown_path_is_not_found(server):
    """Another path returns 404."""
    assert ask(server, GET % b"etc/passwd").startswith(b"HTTP/1.1 404 ")


def test_a_request_is_bounded(server):
    """A request without an end is refused at 8 KiB, and the rest of it is not read."""
    assert ask(server, b"GET /metrics HTTP/1.1\r\n" + b"x" * (MOST_BYTES * 4)).startswith((b"HTTP/1.1 431 ", b""))
    with connect(server) as connection:
        connection.sendall(b"x" * (MOST_BYTES + 1))
        assert read(connection).startswith(b"HTTP/1.1 431 ")


def test_a_silent_client_is_disconnected(server, clock):
    """A client that sends nothing, or a part, is disconnected after five seconds."""
    with connect(server) as silent, connect(server) as slow:
        slow.sendall(b"GET /met")
        wait_until(lambda: len(server._exchanges) == 2)
        clock.advance(PATIENCE + 0.1)
        assert read(silent) == read(slow) == b""
    assert server.closed["late"] == 2


def test_a_client_that_does_not_read_is_disconnected(server, clock, board):
    """A client that does not read its response keeps no more than that, and not for longer than five seconds."""
    board.observe(lambda: [gauge(f"dnstrail_{number}", "X." * 500, 1) for number in range(5000)], lambda: "")
    clock.advance(1)
    board._wanted.set()
    board.turn()
    with socket.socket() as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.connect(("127.0.0.1", server.port))
        greedy.sendall(GET % b"metrics")
        wait_until(lambda: any(exchange.sends for exchange in server._exchanges.values()))
        assert ask(server, GET % b"healthz").startswith(b"HTTP/1.1 200 ")
        clock.advance(PATIENCE + 0.1)
        wait_until(lambda: server.closed["late"] == 1)


def test_a_thousand_connections_delay_no_scrape(server):
    """A server keeps 16 of 1,000 connections that send nothing, and a scrape between them is answered."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for number in range(1000):
            stack.enter_context(connect(server))
            if number % 250 == 249:
                assert b"dnstrail_x 7.0\n" in ask(server, GET % b"metrics")
        wait_until(lambda: server.closed["crowded"] >= 1000 - MOST_CONNECTIONS)
        assert len(server._exchanges) <= MOST_CONNECTIONS
        counted = ask(server, GET % b"metrics")
        assert b'dnstrail_metrics_connections_closed_total{reason="crowded"}' in counted


def test_an_address_in_use_is_refused(server, board):
    """A second server on the same port is refused with the address."""
    with pytest.raises(BusError, match=rf"--metrics 127.0.0.1:{server.port}: Address already in use"):
        MetricsServer(("127.0.0.1", server.port), board)
