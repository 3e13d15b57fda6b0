"""The connection that a trail explains."""

from __future__ import annotations

import msgspec


class Connection(msgspec.Struct, frozen=True):
    """Whose connection a trail is to explain; what is not known is left out.

    `process` is a process id, `container` a container id, `client` an address in canonical text, `port` the server's.
    """

    process: int | None = None
    container: str | None = None
    client: str | None = None
    port: int | None = None
