"""A connection of HTTP within bounds: of connections before TLS, of the time for a request, and for a slow reader."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import Server

from dnstrail.kernel.sock_diag import user_of_connection
from dnstrail_web.access import Access, Peer
from dnstrail_web.errors import ApiError

#: connections of the page -> further ones are closed
MOST_CONNECTIONS: Final = 256
#: connections of users and hosts who were not let in -> further ones are closed
MOST_STRANGERS: Final = 64
#: connections of one such user or host -> further ones are closed
MOST_OF_STRANGER: Final = 16
#: seconds for the handshake of TLS, for a request, and between two of them -> the connection is closed
PATIENCE: Final = 10.0
#: seconds in which a reader takes no byte of a reply -> the connection is closed
SLOWEST: Final = 30.0
_PAUSE: Final = 1.0  # second until the next attempt, if the system has no descriptor left
_TICKS: Final = 10  # of uvicorn's loop, ten a second
_AT_ONCE: Final = 2  # of them: to wake up ten times a second costs more than an idle page


class HttpConnection(H11Protocol):
    """A connection with the user at its other end. The application receives the peer in the state of a request."""

    def __init__(self, peer: Peer, leave: Callable[[HttpConnection], None], **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn, app_state={"peer": peer})
        self.peer = peer
        self._leave = leave
        self._since = self.loop.time()  # of the connection, and of the end of its last reply
        self._unread = 0  # bytes that wait for the reader
        self._stalled = self._since  # when their number changed last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the time for a request."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP and TLS alike
        super().connection_made(transport)
        self._since = self._stalled = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another one."""
        super().connection_lost(exc)
        self._leave(self)

    def on_response_complete(self) -> None:
        """Begin the time for the next request."""
        self._since = self.loop.time()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request of HTTP."""
        del msg
        body = bytes(ApiError("bad_request", "this is no request of HTTP").response().body)
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()

    def check(self, now: float) -> None:
        """Close the connection if its peer is too slow; `now` is the time of the loop."""
        cycle = self.cycle
        is_answering = cycle is not None and not cycle.response_complete
        unread = self.transport.get_write_buffer_size()
        if unread != self._unread or not unread:
            self._unread, self._stalled = unread, now
        awaits_request = not is_answering or cycle.more_body
        if now - self._stalled > SLOWEST or (awaits_request and not unread and now - self._since > PATIENCE):
            self.transport.abort()


class HttpServer(Server):
    """A server whose connections are bounded before TLS, and checked once a second.

    `ticked` is the time (monotonic) of its last turn.
    """

    def __init__(self, config: Config, access: Access) -> None:
        super().__init__(config)
        self.ticked: float | None = None
        self._access = access
        self._open: set[HttpConnection] = set()  # also those in the handshake of TLS
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        self.servers = []
        for listener in sockets or ():
            listener.setblocking(False)
            self._begin(self._accept(listener)).add_done_callback(self._end)
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all connections.

        Raises:
            Exception: the server accepts no connections, by a fault of dnstrail.
        """
        for task in self._tasks:
            task.cancel()
        await super().shutdown(sockets)
        if self._fault is not None:
            raise self._fault

    async def main_loop(self) -> None:
        """Look at the connections, and at the end of the server, until it ends."""
        counter = 0
        while not await self.on_tick(counter):
            await asyncio.sleep(_AT_ONCE / _TICKS)
            counter += _AT_ONCE

    async def on_tick(self, counter: int) -> bool:
        """Check the connections; return whether to end."""
        self.ticked = now = asyncio.get_running_loop().time()
        if counter % _TICKS == 0:
            for connection in [*self.server_state.connections]:
                if isinstance(connection, HttpConnection):
                    connection.check(now)
        return await super().on_tick(counter)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(_PAUSE)
                continue
            try:
                peer = peer_of(connection)
            except BaseException as error:
                connection.close()
                if isinstance(error, OSError):
                    continue
                raise
            if self._has_room(peer):
                one = HttpConnection(peer, self._open.discard, config=self.config, server_state=self.server_state)
                self._open.add(one)
                self._begin(self._take(connection, one))
            else:
                connection.close()
            await asyncio.sleep(0)  # others have their turn, however many connections wait

    async def _take(self, connection: socket.socket, one: HttpConnection) -> None:
        tls = self.config.ssl
        patience = None if tls is None else PATIENCE
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: one, connection, ssl=tls, ssl_handshake_timeout=patience
            )
        except OSError:
            self._open.discard(one)

    def _has_room(self, peer: Peer) -> bool:
        """Return whether one more connection of a peer is within the bounds."""
        if len(self._open) >= MOST_CONNECTIONS:
            return False
        known = self._access.known
        strangers = [origin for one in self._open if (origin := one.peer.origin) not in known]
        of_peer = strangers.count(peer.origin)
        return peer.origin in known or (len(strangers) < MOST_STRANGERS and of_peer < MOST_OF_STRANGER)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _end(self, accepting: asyncio.Task[None]) -> None:
        if not accepting.cancelled():
            self._fault = accepting.exception()
            self.should_exit = True


def peer_of(connection: socket.socket) -> Peer:
    """Return the other end of a connection, with its user if it is on the loopback interface.

    Raises:
        OSError: the connection has ended already.
    """
    (there, port, *_), (here, own_port, *_) = connection.getpeername(), connection.getsockname()
    one, other = ip_address(there), ip_address(here)
    if not one.is_loopback:
        return Peer(str(one))
    family = socket.AF_INET if one.version == 4 else socket.AF_INET6  # noqa: PLR2004 - the version
    return Peer(str(one), user_of_connection(family, one.packed, port, other.packed, own_port))
