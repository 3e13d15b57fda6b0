"""The webhook, and servers that hang, redirect, flood, refuse or lie."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from dnstrail.errors import SettingsError
from dnstrail_findings.output import RefusedError
from dnstrail_findings.presets import LINES as LINES_OF_TEXT
from dnstrail_findings.presets import PRESETS
from dnstrail_findings.writers.webhook import Webhook, parse_url
from live.certificate import make_certificate
from live.namespaces import skip
from live.webhook_server import OK, read_request, serving
from live.workers import BOUND

LINES = [b'{"a": 1}', b'{"b": 2}']


def until_closed(connection: socket.socket) -> None:
    """Read until the client closes the connection."""
    with suppress(OSError):
        while connection.recv(1 << 16):
            pass


def test_a_batch_is_one_request() -> None:
    """A batch is an array of JSON in one POST, with the token and a length."""
    with serving(OK) as server:
        Webhook(server.url, token="Bearer s3cret").write(LINES)
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert json.loads(body) == [{"a": 1}, {"b": 2}]
    assert head.startswith(b"POST /in?x=1 HTTP/1.1\r\n")
    assert b"Authorization: Bearer s3cret" in head
    assert b"Content-Type: application/json" in head
    assert b"Connection: close" in head


def test_text_is_posted_as_lines() -> None:
    """Lines of text are no JSON."""
    with serving(OK) as server:
        Webhook(server.url, preset=LINES_OF_TEXT).write([b"a", b"b"])
        assert server.requests[0].endswith(b"\r\n\r\na\nb\n")


@pytest.mark.parametrize("status", [b"301", b"302", b"307", b"101", b"401", b"404", b"429", b"500", b"503"])
def test_other_answers_are_tried_again(status: bytes) -> None:
    """A redirect is not followed; like an error of the server it is a failure, and the batch is tried again."""
    with serving(OK) as target:
        location = b"Location: http://127.0.0.1:%d/\r\n" % target.port
        with serving(b"HTTP/1.1 %s X\r\n%s\r\n" % (status, location)) as server:
            with pytest.raises(OSError, match=f"status {status.decode()}"):
                Webhook(server.url).write(LINES)
            assert len(server.requests) == 1
        assert target.requests == []


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_refusal_is_final(status: int) -> None:
    """A batch that would be refused again is not tried again."""
    with serving(b"HTTP/1.1 %d No\r\n\r\n" % status) as server, pytest.raises(RefusedError, match=str(status)):
        Webhook(server.url).write(LINES)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1",
        b"HTTP/2 200 OK\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"garbage garbage\r\n",
        b"\0" * 100,
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_an_answer_that_is_no_http_is_a_failure(answer: bytes) -> None:
    """Garbage counts as no acceptance."""
    with serving(answer) as server, pytest.raises(OSError, match="no HTTP"):
        Webhook(server.url).write(LINES)


def test_a_chunk_of_a_negative_length_is_a_failure() -> None:
    """The length of a chunk in an answer ends no worker."""
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}"
    with serving(answer) as server, pytest.raises(OSError, match="no HTTP"):
        Webhook(server.url, preset=PRESETS["otlp"]).write(LINES)


def test_a_server_that_never_answers_is_given_up() -> None:
    """A server that takes the request and stays silent costs bounded time."""
    with serving(until_closed) as server, pytest.raises(TimeoutError):
        Webhook(server.url, patience=0.1).write(LINES)


def test_a_server_that_answers_byte_by_byte_is_given_up() -> None:
    """A server cannot prolong a request by one byte at a time."""
    endless = b"HTTP/1.1 204 No Content\r\nX: " + b"x" * 200
    with serving(lambda connection: drip(connection, endless, 10)) as server, pytest.raises(TimeoutError):
        Webhook(server.url, patience=0.2).write(LINES)


def test_a_server_that_delays_each_step_is_given_up(certificates, monkeypatch) -> None:
    """Connection, TLS, request and answer have one time in all: what the handshake took, the answer does not have."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "certificate.pem"))
    patience, left = 2.0, []

    def shake_late(connection: socket.socket) -> None:
        time.sleep(patience * 0.8)
        with suppress(OSError), over_tls(certificates).wrap_socket(connection, server_side=True) as secure:
            begin = time.monotonic()
            until_closed(secure)
            left.append(time.monotonic() - begin)

    with serving(shake_late) as server, pytest.raises(TimeoutError):
        Webhook(parse_url(f"https://127.0.0.1:{server.port}/"), patience=patience).write(LINES)
    assert not left or left[0] < patience * 0.9  # a busy host may reach the end within the handshake


def drip(connection: socket.socket, answer: bytes, seconds: float) -> None:
    """Send an answer byte by byte in a time."""
    with suppress(OSError):
        for byte in answer:
            connection.sendall(bytes([byte]))
            time.sleep(seconds / len(answer))


def test_a_proxy_and_a_server_that_drip_are_given_up(certificates, monkeypatch) -> None:
    """A request has one time in all: handshake and answer of a server lack what the answer of a proxy took."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "certificate.pem"))
    monkeypatch.delenv("no_proxy", raising=False)
    patience = 1.5

    def forward(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        with socket.create_connection(("127.0.0.1", server.port), BOUND) as onward:
            drip(connection, b"HTTP/1.1 200 Connected\r\n\r\n", patience * 0.7)
            back = threading.Thread(target=pump, args=(onward, connection))
            back.start()
            pump(connection, onward)
            back.join(BOUND)

    def answer(connection: socket.socket) -> None:
        read_request(connection)
        drip(connection, OK, patience * 0.7)

    with serving(answer, over_tls(certificates)) as server, serving(forward) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(TimeoutError):
            Webhook(parse_url(f"https://localhost:{server.port}/in"), patience=patience).write(LINES)


def test_each_address_of_a_server_has_a_part_of_the_time(monkeypatch) -> None:
    """An address that does not answer leaves time for the next one of the same server."""
    with serving(OK) as server, full_listener("127.0.0.2", server.port):
        places = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, server.port))
            for address in ("127.0.0.2", "127.0.0.1")
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
        Webhook(server.url, patience=4.0).write(LINES)
        assert len(server.requests) == 1


@contextmanager
def full_listener(address: str, port: int) -> Iterator[None]:
    """Listen at an address, and answer no connection, since the queue is full."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


@pytest.mark.parametrize("before", [EARLY, b"HTTP/1.1 100\r\n\r\n", EARLY * 3, b"HTTP/1.1 102 X\nA: b\n\n"])
def test_an_answer_that_only_informs_is_skipped(before: bytes) -> None:
    """The status that counts is the first that is not 1xx (RFC 9110, section 15.2)."""
    with serving(before + OK) as server:
        Webhook(server.url).write(LINES)
    with serving(before + b"HTTP/1.1 413 X\r\n\r\n") as server, pytest.raises(RefusedError, match="413"):
        Webhook(server.url).write(LINES)


def test_endless_answers_that_only_inform_are_given_up() -> None:
    """A server that never states a final status costs a bounded number of bytes."""
    sent = 0

    def inform(connection: socket.socket) -> None:
        nonlocal sent
        read_request(connection)
        with suppress(OSError):
            while sent < 1 << 30:
                sent += connection.send(EARLY * 1000)

    with serving(inform) as server, pytest.raises(OSError, match="no final status"):
        Webhook(server.url).write(LINES)
    assert sent < 64 << 20  # what the buffers of the kernel hold


def test_a_server_that_does_not_read_is_given_up() -> None:
    """A server that accepts a connection and reads nothing costs bounded time."""
    ended = threading.Event()
    with serving(lambda _: ended.wait(BOUND) and None) as server:
        with pytest.raises(OSError, match=r"timed out|no answer"):
            Webhook(server.url, patience=0.1).write([b"x" * (64 << 20)])
        ended.set()


def test_a_gigabyte_of_answer_is_not_read() -> None:
    """Only the status of an answer is read, however long the answer is."""
    sent = 0

    def flood(connection: socket.socket) -> None:
        nonlocal sent
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        with suppress(OSError):
            while sent < 1 << 30:
                sent += connection.send(b"x" * (1 << 16))

    with serving(flood) as server:
        Webhook(server.url).write(LINES)
    assert sent < 64 << 20  # what the buffers of the kernel hold


def test_a_refusal_before_the_end_of_the_body_counts() -> None:
    """A server may answer before it has read the body, and close."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\n\r\n")
        until_closed(connection)

    with serving(refuse) as server, pytest.raises(RefusedError, match="413"):
        Webhook(server.url).write([b"x" * (1 << 20)])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    if not shutil.which("openssl"):
        skip("openssl is not installed")
    folder: Path = tmp_path_factory.mktemp("tls")
    make_certificate(folder, "localhost", "127.0.0.1")
    return folder


def over_tls(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


def test_a_trusted_certificate_is_accepted(certificates, monkeypatch) -> None:
    """A server whose certificate is in SSL_CERT_FILE is trusted."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "certificate.pem"))
    with serving(OK, over_tls(certificates)) as server:
        Webhook(parse_url(f"https://127.0.0.1:{server.port}/")).write(LINES)
        assert server.requests[0].endswith(b'[{"a": 1},\n{"b": 2}]')


def test_another_certificate_is_refused(certificates) -> None:
    """A server with a certificate that nobody vouches for receives nothing."""
    with serving(OK, over_tls(certificates)) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            Webhook(parse_url(f"https://127.0.0.1:{server.port}/")).write(LINES)
        assert server.requests == []


def test_a_proxy_of_the_environment_is_used(certificates, monkeypatch) -> None:
    """A request goes through the proxy of `https_proxy`, which receives its own password and none of the findings."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "certificate.pem"))
    monkeypatch.delenv("no_proxy", raising=False)
    asked: list[bytes] = []

    def forward(connection: socket.socket) -> None:
        head = connection.recv(1 << 16)
        asked.append(head)
        host, port = head.split()[1].decode().rsplit(":", 1)
        with socket.create_connection((host, int(port)), BOUND) as onward:
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=pump, args=(onward, connection))
            back.start()
            pump(connection, onward)
            back.join(BOUND)

    with serving(OK, over_tls(certificates)) as server, serving(forward) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:s3cret@127.0.0.1:{proxy.port}")
        url = parse_url(f"https://localhost:{server.port}/in")
        Webhook(url).write(LINES)
        assert asked[0].startswith(b"CONNECT localhost:%d HTTP/1." % server.port)
        assert b"Basic bWU6czNjcmV0" in asked[0]
        assert b"s3cret" not in server.requests[0]
        monkeypatch.setenv("no_proxy", "localhost")
        Webhook(url).write(LINES)
        assert (len(asked), len(server.requests)) == (1, 2)


def test_a_proxy_that_is_no_url_is_refused(monkeypatch) -> None:
    """A proxy of another kind than http and https ends the worker at its start."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("https_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(SettingsError, match="https_proxy"):
        Webhook(parse_url("https://siem.example/"))


def pump(source: socket.socket, target: socket.socket) -> None:
    """Send what a socket receives over another one, until it is closed."""
    with suppress(OSError):
        while received := source.recv(1 << 16):
            target.sendall(received)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "siem.example/in",
        "ftp://siem.example/",
        "http://siem.example/",
        "https://user:pw@siem.example/",
        "https://siem.example:99999/",
        "https:///in",
        "https://siem.example/a b",
        "https://siem.example/\r\nX: y",
        "https://siem.example/#x",
        "https://[::1/",
        "https://s\u00ecem.example/",
    ],
)
def test_other_urls_are_refused(text: str) -> None:
    """A URL without https, with a password, or with other characters is refused; http is for this host alone."""
    with pytest.raises(SettingsError, match="--to webhook"):
        parse_url(text)


def test_a_url_has_its_parts() -> None:
    """Port and path have defaults, and an IPv6 address stands in brackets."""
    assert parse_url("https://siem.example") == ("https", "siem.example", 443, "/")
    assert parse_url("http://[::1]:8080/a?b=c") == ("http", "::1", 8080, "/a?b=c")
