"""The connection that a trail or a rank explains."""

from __future__ import annotations

import msgspec


class Connection(msgspec.Struct, frozen=True):
    """The client side of a connection, as far as it is known. An unknown field is None and excludes nothing.

    `process` is a process id, `container` a container id, `client` the client's address in canonical text, `port` the
    port at the server, and `source_port` the port of the client. `starts` contains the starts (ns) of the processes
    that `process` may mean: a pid is used again. `host` is the name of its host. `unit` is a systemd unit or slice: it
    selects open connections, and no trail.
    """

    process: int | None = None
    container: str | None = None
    client: str | None = None
    port: int | None = None
    source_port: int | None = None
    starts: frozenset[int] | None = None
    host: str | None = None
    unit: str | None = None

    @property
    def means_one(self) -> bool:
        """Whether it names the process and the port, or the source port: else other connections may be meant."""
        return self.source_port is not None or (bool(self.process) and self.port is not None)

    @property
    def fields(self) -> dict[str, int | str]:
        """The known fields, as a request contains them."""
        known = msgspec.structs.asdict(self)
        del known["starts"]
        return {name: value for name, value in known.items() if value is not None}
