"""A connection of HTTP within bounds: of connections, of the time for a request, and of the time for a slow reader."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import Server, ServerState

from dnstrail.kernel.sock_diag import user_of_connection
from dnstrail_web.access import Access, Peer
from dnstrail_web.errors import ApiError

#: connections of the page -> further ones are closed
MOST_CONNECTIONS: Final = 256
#: connections of users who were not let in, and of other hosts -> further ones are closed
MOST_STRANGERS: Final = 64
#: seconds for a request, and between two of them -> the connection is closed
PATIENCE: Final = 10.0
#: seconds in which a reader takes no byte of a reply -> the connection is closed
SLOWEST: Final = 30.0
_TICKS: Final = 10  # of uvicorn's loop, ten a second


class HttpConnection(H11Protocol):
    """A connection with the user at its other end. The application receives the peer in the state of a request."""

    def __init__(self, access: Access, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self.peer = Peer("")
        self._access = access
        self._since = self.loop.time()  # of the connection, and of the end of its last reply
        self._unread = 0  # bytes that wait for the reader
        self._stalled = self._since  # when their number changed last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, unless there are too many."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - TCP and TLS alike
        super().connection_made(transport)
        self.peer = peer_of(transport)
        self.app_state = {**self.app_state, "peer": self.peer}
        others = [one.peer.user for one in self.connections if one is not self and isinstance(one, HttpConnection)]
        users = self._access.users
        strangers = sum(user not in users for user in others)
        if len(others) >= MOST_CONNECTIONS or (self.peer.user not in users and strangers >= MOST_STRANGERS):
            transport.abort()

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
    """A server whose connections are checked once a second. `ticked` is the time (monotonic) of its last turn."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.ticked: float | None = None

    async def on_tick(self, counter: int) -> bool:
        """Check the connections; return whether to end."""
        self.ticked = now = asyncio.get_running_loop().time()
        if counter % _TICKS == 0:
            for connection in [*self.server_state.connections]:
                if isinstance(connection, HttpConnection):
                    connection.check(now)
        return await super().on_tick(counter)


def connections_of(access: Access) -> Any:
    """Return what uvicorn makes a connection by."""

    def make(
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> HttpConnection:
        return HttpConnection(access, config=config, server_state=server_state, app_state=app_state, _loop=_loop)

    return make


def peer_of(transport: asyncio.Transport) -> Peer:
    """Return the other end of a connection, with its user if it is on the loopback interface."""
    ends: Iterable[Any] = (transport.get_extra_info(name) for name in ("peername", "sockname"))
    try:
        (there, port, *_), (here, own_port, *_) = ends
        one, other = ip_address(there), ip_address(here)
    except (TypeError, ValueError):  # the connection has ended already
        return Peer("")
    if not one.is_loopback:
        return Peer(str(one))
    family = socket.AF_INET if one.version == 4 else socket.AF_INET6  # noqa: PLR2004 - the version
    return Peer(str(one), user_of_connection(family, one.packed, port, other.packed, own_port))
