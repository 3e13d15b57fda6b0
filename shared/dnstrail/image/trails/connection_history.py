"""The questions that led to connections: they distinguish the names of one address (docs/trails.md)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

MAX_USES = 65536  # in all; beyond it the pair of actor and address that was answered least recently is evicted
MAX_NAMES = 32  # questions of one actor about one address
MAX_PORTS = 16  # of one address to which one actor connects
SOON = 1.0  # seconds; a program connects as soon as it has its answer, mostly within some milliseconds

Actor = int | str  # a process id; a container id or a client address


class AnswerUse:
    """The answers to one question that gave one actor one address, and the connections they led to.

    `led` counts connections by port. A connection counts if it follows an answer within SOON, and it counts for the
    question that was answered last.
    """

    __slots__ = ("answered", "answers", "led")

    def __init__(self) -> None:
        self.answered = float("-inf")
        self.answers = 0
        self.led: dict[int, int] = {}

    def is_fresh(self, at: float) -> bool:
        """Return whether the last answer came at most SOON before `at`."""
        return 0 <= at - self.answered <= SOON

    def rate(self, port: int | None) -> float:
        """Return the number of connections to a port for each answer."""
        return self.led.get(port or 0, 0) / max(self.answers, 1)


class ConnectionHistory:
    """The most recent uses of answers by actor and address, within MAX_USES; `counters` counts evictions."""

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        self._pairs: OrderedDict[tuple[Actor, str], dict[str, AnswerUse]] = OrderedDict()
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def of(self, actor: Actor, address: str) -> dict[str, AnswerUse]:
        """Return the uses of an actor and an address by question, the last answered question last."""
        return self._pairs.get((actor, address), {})

    def note_answer(self, actors: Iterable[Actor], address: str, root: str, stamp: float) -> None:
        """Note that the answer to the question `root` gave these actors an address."""
        for actor in actors:
            names = self._pairs.get((actor, address))
            if names is None:
                names = self._pairs[actor, address] = {}
            else:
                self._pairs.move_to_end((actor, address))
            use = names.pop(root, None)
            if use is None:
                use = AnswerUse()
                self._held += 1
            names[root] = use
            use.answers += 1
            use.answered = max(use.answered, stamp)
            if len(names) > MAX_NAMES:
                del names[next(iter(names))]
                self._count_evicted(1)
        while self._held > MAX_USES:
            _, oldest = self._pairs.popitem(last=False)
            self._count_evicted(len(oldest))

    def note_connection(self, actors: Iterable[Actor], address: str, port: int, stamp: float) -> None:
        """Count a connection for the question of each of these actors that was answered last."""
        for actor in actors:
            names = self.of(actor, address)
            use = names[next(reversed(names))] if names else AnswerUse()
            if use.is_fresh(stamp) and (port in use.led or len(use.led) < MAX_PORTS):
                use.led[port] = use.led.get(port, 0) + 1

    def _count_evicted(self, number: int) -> None:
        self._held -= number
        self.counters["evicted_uses"] += number
