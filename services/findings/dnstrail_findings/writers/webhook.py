"""Batches of findings to a webhook: each is the body of one POST request."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, create_connection, getaddrinfo, socket
from typing import NamedTuple
from urllib.parse import urlsplit

from dnstrail import __version__
from dnstrail.errors import SettingsError
from dnstrail_findings.presets import ARRAY, Preset
from dnstrail_findings.writer import RefusedError

#: seconds for a request to a webhook: connection, TLS and answer in all -> it is sent again
PATIENCE = 5.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_FINAL = re.compile(rb"HTTP/1\.[01] (101|[02-9]\d\d)[ \r\n]", re.ASCII)
_INFORMS = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d[ \r].*?\n\r?\n", re.ASCII | re.DOTALL)  # RFC 9110, section 15.2
MOST_HEADS = 1 << 14  #: bytes of the answer of a webhook up to its final status -> the batch is sent again
#: bytes of the body of an answer that `preset=elastic` reads -> the documents behind count as created
MOST_ANSWER = 1 << 16
_CHUNK = 1 << 16  # bytes
_REFUSED = frozenset({400, 413, 415, 422})  # the same request would be refused again (RFC 9110, section 15.5)
_OK = range(200, 300)
_PORTS = {"https": 443, "http": 80}


class Url(NamedTuple):
    """The parts of a URL that a request needs."""

    scheme: str
    host: str
    port: int
    target: str


def parse_url(text: str) -> Url:
    """Return the parts of the URL of a webhook.

    Raises:
        SettingsError: It is no URL, or names another scheme than https; http is for an address of this host.
    """
    refused = f"--to webhook: {text!r}"
    if not re.fullmatch(r"[!-~]+", text):
        raise SettingsError(f"{refused} is no URL")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SettingsError(f"{refused}: {error}") from error
    if not host or parts.scheme not in _PORTS or "@" in parts.netloc or parts.fragment:
        raise SettingsError(f"{refused}: write https://HOST[:PORT]/PATH; a secret stands in the file of token=FILE")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise SettingsError(f"{refused}: http is for {', '.join(_LOOPBACK)} alone; use https")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(parts.scheme, host, port or _PORTS[parts.scheme], target)


class Webhook:
    """Posts batches of findings in the form of a preset.

    Only the final status of an answer is read, and never more than its first bytes. Each request has a connection of
    its own, whose server has a valid certificate. A redirect counts as a failure.
    """

    def __init__(self, url: Url, *, token: str = "", preset: Preset = ARRAY, patience: float = PATIENCE) -> None:
        self.most, self.most_bytes = preset.most, preset.most_bytes
        self._url = (
            url if "?" in url.target or not preset.query else url._replace(target=f"{url.target}?{preset.query}")
        )
        self._preset = preset
        self._patience = patience
        self._context = ssl.create_default_context() if url.scheme == "https" else None
        self._headers = {
            "Content-Type": preset.content_type,
            "User-Agent": f"dnstrail/{__version__}",
            "Connection": "close",
            **({"Authorization": token} if token else {}),
        }

    def write(self, lines: Sequence[bytes]) -> None:
        """Post lines.

        Raises:
            OSError: The server did not accept them in time.
            RefusedError: The server refuses them for good.
        """
        try:
            with closing(self._connection()) as connection:
                status, answer = self._post(connection, self._preset.body(lines))
        except HTTPException as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        if status in _REFUSED:
            raise RefusedError(f"status {status}")
        if status not in _OK:
            raise OSError(f"status {status}")
        self._preset.check(answer, len(lines))

    def close(self) -> None:
        """Do nothing: no connection stays open."""

    def _connection(self) -> HTTPConnection:
        host, port = self._url.host, self._url.port
        if self._context is None:
            return HTTPConnection(host, port)
        return HTTPSConnection(host, port, context=self._context)

    def _post(self, connection: HTTPConnection, body: bytes) -> tuple[int, bytes]:
        """Post a body, and return the status, with the first bytes of the answer behind it if the preset reads them."""
        left = _countdown(self._patience)
        connection.sock = self._connected(left)
        connection.putrequest("POST", self._url.target, skip_accept_encoding=True)
        for name, value in {**self._headers, "Content-Length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.sock.settimeout(left())
        connection.endheaders()
        with suppress(ConnectionError):  # a server may refuse a body that it does not read
            for start in range(0, len(body), _CHUNK):
                connection.sock.settimeout(left())
                connection.sock.sendall(body[start : start + _CHUNK])

        def receive(size: int) -> bytes:
            connection.sock.settimeout(left())
            return connection.sock.recv(size)

        status, answer = _final_status(receive)
        room = MOST_ANSWER if self._preset.reads and status in _OK else 0
        while room > len(answer) and (received := receive(room - len(answer))):
            answer += received
        return status, answer

    def _connected(self, left: Callable[[], float]) -> socket:
        made = _connect(self._url, left)
        if self._context is None:
            return made
        with closing(made):  # a socket with TLS takes its place
            made.settimeout(left())
            return self._context.wrap_socket(made, server_hostname=self._url.host)


def _connect(url: Url, left: Callable[[], float]) -> socket:
    """Connect to the first address of a server that answers; each has an equal part of the time that is left."""
    fault = OSError("the server has no address")
    found = getaddrinfo(url.host, url.port, type=SOCK_STREAM)
    for place, (*_, address) in enumerate(found):
        try:
            made = create_connection((str(address[0]), url.port), left() / (len(found) - place))
        except OSError as error:
            fault = error
        else:
            made.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
            return made
    raise fault


def _countdown(seconds: float) -> Callable[[], float]:
    """Return a function that returns the seconds that are left, and raises TimeoutError when none are."""
    end = time.monotonic() + seconds

    def left() -> float:
        remaining = end - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("no answer in time")
        return remaining

    return left


def _final_status(receive: Callable[[int], bytes]) -> tuple[int, bytes]:
    """Return the first status that does not only inform, and what was received of its answer.

    Raises:
        OSError: The first bytes of the answer have none.
    """
    answer, room = b"", MOST_HEADS
    while room and (received := receive(room)):
        room -= len(received)
        answer += received
        while informs := _INFORMS.match(answer):
            answer = answer[informs.end() :]
        if final := _FINAL.match(answer):
            return int(final[1]), answer
    raise OSError("the answer is no HTTP/1.1, or has no final status")
