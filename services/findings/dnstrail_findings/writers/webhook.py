"""Batches of findings to a webhook: each is the body of one POST request, sent by urllib3."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Sequence
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, NewConnectionError, ProtocolError, SSLError
from urllib3.exceptions import TimeoutError as LateError
from urllib3.util import Url as ParsedUrl
from urllib3.util import make_headers
from urllib3.util import parse_url as parse_any_url

from dnstrail import __version__
from dnstrail.errors import SettingsError
from dnstrail_findings.output import RefusedError
from dnstrail_findings.presets import ARRAY, Preset

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PATIENCE = 5.0  #: seconds for a request to a webhook: connection, TLS, send and answer in all -> it is sent again
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
MOST_HEADS = 1 << 14  #: bytes of the answer of a webhook up to its final status -> the batch is sent again
#: bytes of the body of an answer that `preset=elastic` reads -> the documents behind count as created
MOST_ANSWER = 1 << 16
_REFUSED = frozenset({400, 413, 415, 422})  # the same request would be refused again (RFC 9110, section 15.5)
_OK = range(200, 300)
_INFORMS = range(102, 200)  # http.client skips 100, and 101 is final
_PORTS = {"https": 443, "http": 80}
_LEAST = 0.001  # seconds: 0 would make a socket non-blocking


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
        (host or "").encode("idna")  # as `getaddrinfo` does, which refuses a label that is empty or too long
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
    its own, whose server has a valid certificate. It leads through the proxy that the environment names for https. A
    redirect counts as a failure.
    """

    def __init__(self, url: Url, *, token: str = "", preset: Preset = ARRAY, patience: float = PATIENCE) -> None:
        self.most, self.most_bytes = preset.most, preset.most_bytes
        self._url = (
            url if "?" in url.target or not preset.query else url._replace(target=f"{url.target}?{preset.query}")
        )
        self._preset = preset
        self._patience = patience
        self._context = ssl.create_default_context() if url.scheme == "https" else None
        self._proxy = _proxy_of(url)
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
        body = self._preset.body(lines)
        try:
            status, answer = self._post(body)
        except NewConnectionError as error:  # a LateError, too
            raise OSError(str(error)) from error
        except LateError as error:
            raise TimeoutError("no answer in time") from error
        except SSLError as error:
            raise error.args[0] from error
        except (ProtocolError, ValueError) as error:  # urllib3 reads a chunk of a negative length
            raise OSError(f"the answer is no HTTP/1.1, or has no final status: {error}") from error
        except HTTPError as error:
            raise OSError(str(error)) from error
        if status in _REFUSED:
            raise RefusedError(f"status {status}")
        if status not in _OK:
            raise OSError(f"status {status}")
        self._preset.check(answer, len(lines))

    def close(self) -> None:
        """Do nothing: no connection stays open."""

    def _post(self, body: bytes) -> tuple[int, bytes]:
        """Post a body, and return the status, with the first bytes of the answer behind it if the preset reads them."""
        end = time.monotonic() + self._patience
        host = f"[{self._url.host}]" if ":" in self._url.host else self._url.host
        manager = self._manager()
        pool = manager.connection_from_url(f"{self._url.scheme}://{host}:{self._url.port}")
        pool.conn_kw["end"] = end
        response = pool.urlopen(
            "POST",
            self._url.target,
            body=body,
            headers=self._headers,
            retries=False,  # the queue of the output sends again
            redirect=False,
            preload_content=False,
        )
        try:
            reads = self._preset.reads and response.status in _OK
            return response.status, response.read(MOST_ANSWER, decode_content=False) if reads else b""
        finally:
            response.close()
            manager.clear()

    def _manager(self) -> urllib3.PoolManager:
        """Return a manager of connections. Each address of the server, or of the proxy, has an equal part of the time.

        Raises:
            OSError: The server has no address.
        """
        proxy = self._proxy
        host, port = (self._url.host, self._url.port) if proxy is None else (proxy.host, proxy.port)
        addresses = len(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        options: dict[str, Any] = {
            "timeout": urllib3.Timeout(total=self._patience, connect=self._patience / addresses),
            "ssl_context": self._context,
        }
        if proxy is None:
            manager = urllib3.PoolManager(**options)
        else:
            headers = make_headers(proxy_basic_auth=proxy.auth) if proxy.auth else None
            manager = urllib3.ProxyManager(proxy._replace(auth=None).url, proxy_headers=headers, **options)
        manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
        return manager


def _proxy_of(url: Url) -> ParsedUrl | None:
    """Return the proxy that the environment names for a server of https (`https_proxy`, `no_proxy`).

    Raises:
        SettingsError: It is no URL of http or https.
    """
    named = getproxies().get("https") if url.scheme == "https" else None
    if not named or proxy_bypass(url.host):
        return None
    try:
        proxy = parse_any_url(named)
    except HTTPError as error:
        raise SettingsError(f"https_proxy: {error}") from error
    if proxy.scheme not in _PORTS or not proxy.host:
        raise SettingsError(f"https_proxy: write http://HOST:PORT, not {named!r}")
    return proxy


class _Received(RawIOBase):
    """The bytes of an answer: until the time of the socket is over, and no more than `room`."""

    def __init__(self, sock: socket.socket) -> None:
        self.room = MOST_HEADS
        self._socket = sock
        self._file = sock.makefile("rb", buffering=0)  # it keeps the socket open, which http.client closes early
        self._end = time.monotonic() + (sock.gettimeout() or PATIENCE)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self.room <= 0:
            raise ConnectionAbortedError("the answer is longer than its bound")
        received = self._file.readinto(memoryview(buffer)[: self.room]) or 0
        self.room -= received
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        self._socket.settimeout(left)  # also for a handshake, which follows the answer of a proxy
        return received

    def close(self) -> None:
        self._file.close()
        super().close()


class _Answer(HTTPResponse):
    """An answer within a time and a number of bytes. Those that only inform are skipped (RFC 9110, section 15.2)."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._received = _Received(sock)
        self.fp.close()
        self.fp = BufferedReader(self._received)

    def begin(self) -> None:
        super().begin()
        while self.status in _INFORMS:
            vars(self).update(headers=None, msg=None)  # else `begin` reads nothing
            super().begin()
        self._received.room += MOST_ANSWER


class _HttpConnection(HTTPConnection):
    """A connection whose steps end at a time: `timeout`, which urllib3 sets for a step, is at most what is left."""

    response_class = _Answer

    def __init__(self, *args: Any, end: float, **kwargs: Any) -> None:
        self._end = end
        super().__init__(*args, **kwargs)

    @property
    def timeout(self) -> float | None:
        left = max(self._end - time.monotonic(), _LEAST)
        return left if self._timeout is None else min(self._timeout, left)

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def _new_conn(self) -> socket.socket:
        made = super()._new_conn()
        made.settimeout(self.timeout)
        return made


class _HttpsConnection(_HttpConnection, HTTPSConnection):
    """The same over TLS."""


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection
