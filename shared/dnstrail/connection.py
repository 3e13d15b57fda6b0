"""The connection that a trail or a rank explains."""

from __future__ import annotations

import msgspec


class Connection(msgspec.Struct, frozen=True):
    """The client side of a connection, as far as it is known. An unknown field is None and excludes nothing.

    `process` is a process id, `container` a container id, `client` the client's address in canonical text, and `port`
    the port at the server.
    """

    process: int | None = None
    container: str | None = None
    client: str | None = None
    port: int | None = None
