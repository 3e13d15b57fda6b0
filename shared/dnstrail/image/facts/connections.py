"""Facts about connections: opened, their result, the name that they send, and their end (docs/inside/image.md)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from dnstrail.image.binding.bindings import (
    CLOSED,
    ENDED,
    EXITED,
    GONE,
    OPENED,
    RESULT,
    Binding,
    ConnectionOpening,
    Meaning,
    Stage,
)
from dnstrail.image.bounds import SECOND
from dnstrail.image.facts.heard import Heard

#: connections that ended with their process less than a second ago -> their ends have no bytes
MOST_EXITED = 4096


class ConnectionFact(NamedTuple):
    """One stage of a connection. Times are stamps of the stream (ns).

    `id` names the event of the connection, and the stage. `meaning` is the name that the connection means at this
    stage, and states when it was opened. `connected` states whether its success was seen. A failed attempt has no end.
    """

    id: str
    stage: Stage
    opening: ConnectionOpening
    meaning: Meaning
    client: str
    client_port: int
    connected: bool

    @property
    def host(self) -> str:
        """The host of the connection."""
        return self.opening.host


class ConnectionStages:
    """The stages of connections since the last call of `take`. `event` is the batch and place of the event at hand.

    Connections that were opened before have no facts. The kernel closes the connections of a process after it has
    ended: such an end waits a second for the bytes.
    """

    def __init__(self) -> None:
        self.event = "", 0
        self._ids: dict[Binding, str] = {}  # of the open connections
        self._of_start: dict[str, dict[Binding, None]] = {}
        self._exited = OrderedDict[Binding, ConnectionFact]()  # whose process has ended, the first one first
        self._facts: list[ConnectionFact] = []

    def take(self) -> list[ConnectionFact]:
        """Return the stages since the last call, in the order of their times."""
        facts, self._facts = self._facts, []
        facts.sort(key=_time_of)
        return facts

    def advance(self, now: int, behind: Mapping[str, int] | None = None) -> None:
        """State that all events up to `now` have arrived: what has waited a second for its bytes has none.

        `behind` contains earlier times for the hosts that are behind.
        """
        heard = Heard(now, behind or {})
        over: list[Binding] = []
        for binding, fact in self._exited.items():
            if fact.stage.time + SECOND >= now:
                break
            if fact.stage.time + SECOND < heard.of(fact.host):
                over.append(binding)
        self._facts += [self._exited.pop(binding) for binding in over]

    def end_start(self, start: str, stamp: int) -> None:
        """End the connections that the probe of a start reported, since it is gone and will not report their ends.

        The image goes on to hold them open: they outlast their probe.
        """
        for binding in [*self._of_start.get(start, ())]:
            self.note(binding, Stage(ENDED, max(stamp, binding.stamp), why=GONE))

    def note(self, binding: Binding, stage: Stage) -> None:
        """Note a stage of a connection."""
        if stage.name == OPENED:
            self._begin(binding)
        elif stage.why == CLOSED and (ended := self._exited.pop(binding, None)) is not None:
            counted = ended.stage._replace(sent=stage.sent, received=stage.received)
            self._facts.append(ended._replace(stage=counted))
            return
        event = self._ids.get(binding)
        if event is None:
            return
        fact = ConnectionFact(
            id=f"{event}/{stage.name}",
            stage=stage,
            opening=binding.opening,
            meaning=binding.meant(stage.time),
            client=binding.client,
            client_port=binding.client_port,
            connected=binding.connected,
        )
        if stage.name == ENDED or (stage.name == RESULT and not binding.connected):
            self._forget(binding)
        if stage.why != EXITED:
            self._facts.append(fact)
            return
        self._exited[binding] = fact
        if len(self._exited) > MOST_EXITED:
            self._facts.append(self._exited.popitem(last=False)[1])

    def _begin(self, binding: Binding) -> None:
        batch, place = self.event
        event = self._ids[binding] = f"{batch}/{place}"
        self._of_start.setdefault(_start_of(event), {})[binding] = None

    def _forget(self, binding: Binding) -> None:
        """Forget a connection that has ended."""
        start = _start_of(self._ids.pop(binding))
        of_start = self._of_start[start]
        del of_start[binding]
        if not of_start:
            del self._of_start[start]


def _start_of(event: str) -> str:
    """Return the start of an event that is named by start, topic, batch and place."""
    return event.rsplit("/", 3)[0]


def _time_of(fact: ConnectionFact) -> int:
    return fact.stage.time
