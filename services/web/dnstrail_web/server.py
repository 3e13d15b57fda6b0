"""The server of HTTP, which runs in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path
from typing import Final

from anyio._backends import _asyncio  # noqa: F401 - imported late otherwise, when the user may not be able to read it
from uvicorn.config import Config

from dnstrail.errors import BusError, SettingsError
from dnstrail_web.access import Access
from dnstrail_web.app import Application
from dnstrail_web.feed import Feed
from dnstrail_web.http_connection import HttpServer

STATIC: Final = Path(__file__).parent / "static"
#: bytes of the head of a request -> it is refused
MOST_HEAD: Final = 16 << 10
#: seconds for which the loop of the server may stand still -> the worker sends no heartbeat
SILENCE: Final = 5.0
_BACKLOG: Final = 128
_PATIENCE: Final = 5.0  # seconds for the end of the thread
_LAST: Final = 1  # second for replies at the end


class ServerDiedError(Exception):
    """The thread of the server has ended by itself."""


class WebServer:
    """The server, and its feed as other threads reach it."""

    def __init__(self, application: Application, access: Access, feed: Feed, listener: socket.socket, tls: Tls) -> None:
        self._feed = feed
        self._listener = listener
        self._config = Config(
            application,
            http="h11",
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            h11_max_incomplete_event_size=MOST_HEAD,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_LAST,
            ssl_certfile=None if tls is None else str(tls[0]),
            ssl_keyfile=None if tls is None else str(tls[1]),
        )
        try:
            self._config.load()
        except OSError as error:  # SSLError is one
            raise SettingsError(f"--tls-cert, --tls-key: {error}") from error
        self._server = HttpServer(self._config, access)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def wanted(self) -> bool:
        """Return whether anybody reads the feed, or may resume."""
        return self._feed.is_read(time.monotonic())

    def publish(self, kind: str, data: bytes) -> None:
        """Send a message of the feed."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._feed.publish, kind, data)

    def skip(self) -> None:
        """Note that messages of the feed are not made for a time."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._feed.skip)

    def check(self) -> None:
        """Raise the error that ended the server.

        Raises:
            ServerDiedError: it has ended.
        """
        if not self._thread.is_alive():
            raise ServerDiedError from self._error

    @property
    def runs(self) -> bool:
        """Whether the loop of the server does not stand still."""
        ticked = self._server.ticked
        return ticked is None or time.monotonic() - ticked < SILENCE

    def close(self) -> None:
        """End the server, after replies that are nearly complete."""
        self._server.should_exit = True
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self._error = error

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve([self._listener])


Tls = tuple[Path, Path] | None  # the files of the certificate and of its key


def bind(address: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address.

    Raises:
        BusError: it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise BusError(f"{address}:{port}", f"{error.strerror}: choose another address with --listen") from error
