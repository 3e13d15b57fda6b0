"""Facts about connections: opened, their result, the name that they send, and their end (docs/inside/image.md)."""

from __future__ import annotations

import msgspec

from dnstrail.captured import Process
from dnstrail.image.binding.bindings import OPENED, Binding, Stage


class ConnectionFact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One stage of a connection. Times are stamps of the stream (ns).

    `id` names the event of the connection, and the stage. `time` is that of the stage, and `opened` that of the
    connection. `name` is the one that the connection means at this stage, "" if none is known, and `by` states how it
    was found. `connected` states whether its success was seen. `error` is that of the result. `why` it ended, and
    `sent` and `received` (bytes, -1 if they are unknown) are those of the end. A failed attempt has no end.
    """

    id: str
    stage: str
    host: str
    time: int
    opened: int
    process: Process | None
    address: str
    port: int
    transport: str
    client: str
    client_port: int
    name: str
    by: str
    connected: bool
    error: str = ""
    why: str = ""
    sent: int = -1
    received: int = -1


class ConnectionStages:
    """The stages of connections since the last call of `take`. `event` is the place of the event that is applied.

    Connections that were opened before have no facts.
    """

    def __init__(self) -> None:
        self.event = "", 0
        self._facts: list[ConnectionFact] = []

    def take(self) -> list[ConnectionFact]:
        """Return the stages since the last call, in the order of their times."""
        facts, self._facts = self._facts, []
        facts.sort(key=_time_of)
        return facts

    def note(self, binding: Binding, stage: Stage) -> None:
        """Note a stage of a connection."""
        if stage.name == OPENED:
            binding.fact = "/".join(map(str, self.event))
        if not binding.fact:
            return
        opening, meaning = binding.opening, binding.meant(stage.time)
        fact = ConnectionFact(
            id=f"{binding.fact}/{stage.name}",
            stage=stage.name,
            host=opening.host,
            time=stage.time,
            opened=binding.stamp,
            process=opening.process,
            address=opening.address,
            port=opening.port,
            transport=opening.transport,
            client=binding.client,
            client_port=binding.client_port,
            name=meaning.name,
            by=meaning.by,
            connected=binding.connected,
            error=stage.error,
            why=stage.why,
            sent=stage.sent,
            received=stage.received,
        )
        self._facts.append(fact)


def _time_of(fact: ConnectionFact) -> int:
    return fact.time
