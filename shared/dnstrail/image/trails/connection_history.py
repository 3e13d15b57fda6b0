"""Which questions led to connections: what tells the several names of one address apart (DESIGN 6)."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

MAX_USES = 65536  # in all; the actor and address least recently answered of go first
MAX_NAMES = 32  # questions that led one actor to one address
MAX_PORTS = 16  # to which one actor connects at one address
SOON = 1.0  # seconds; a program connects as soon as it has its answer, mostly within some milliseconds

Actor = int | str  # a process id; a container id or a client address


class AnswerUse:
    """What one question told one actor of one address: its last answer, their number, and, by port, what they led to.

    A connection counts if it came soon after an answer, for the question that was answered last.
    """

    __slots__ = ("answered", "answers", "led")

    def __init__(self) -> None:
        self.answered = float("-inf")
        self.answers = 0
        self.led: dict[int, int] = {}

    def is_fresh(self, at: float) -> bool:
        """Whether the last answer had only just come."""
        return 0 <= at - self.answered <= SOON

    def rate(self, port: int | None) -> float:
        """Connections to a port for each answer."""
        return self.led.get(port or 0, 0) / max(self.answers, 1)


class ConnectionHistory:
    """The uses of all actors and addresses, the youngest of them; `counters`: how many had to go."""

    def __init__(self, counters: Counter[str]) -> None:
        self.counters = counters
        self._pairs: OrderedDict[tuple[Actor, str], dict[str, AnswerUse]] = OrderedDict()
        self._held = 0

    def __len__(self) -> int:
        return self._held

    def of(self, actor: Actor, address: str) -> dict[str, AnswerUse]:
        """The uses by question, the last answered one last."""
        return self._pairs.get((actor, address), {})

    def answered(self, actors: Iterable[Actor], address: str, root: str, stamp: float) -> None:
        """An answer to a question told some actors of an address."""
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
                self._let_go(1)
        while self._held > MAX_USES:
            _, oldest = self._pairs.popitem(last=False)
            self._let_go(len(oldest))

    def connected(self, actors: Iterable[Actor], address: str, port: int, stamp: float) -> None:
        """An actor, by all that is known of it, connected: the question that was answered last led to that."""
        for actor in actors:
            names = self.of(actor, address)
            use = names[next(reversed(names))] if names else AnswerUse()
            if use.is_fresh(stamp) and (port in use.led or len(use.led) < MAX_PORTS):
                use.led[port] = use.led.get(port, 0) + 1

    def _let_go(self, number: int) -> None:
        self._held -= number
        self.counters["evicted_uses"] += number
