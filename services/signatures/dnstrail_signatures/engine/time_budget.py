"""The time budget of signatures: exceeding it is counted, and doing so repeatedly mutes a signature for a while."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable

import structlog

LOOK_EVERY = 0.001  # seconds


class ProcessorClock:
    """The processor time of this thread, up to a millisecond ahead of it.

    The kernel is asked once in LOOK_EVERY. In between, each second that passes counts as one of the processor. A
    measurement that ends more than LOOK_EVERY after the last look is thus wrong by less than LOOK_EVERY, however long
    the thread has waited.
    """

    def __init__(
        self,
        processor: Callable[[], float] = time.thread_time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._processor = processor
        self._monotonic = monotonic
        self._due = self._last = float("-inf")
        self._ahead = 0.0

    def seconds(self) -> float:
        """Return the processor time. It never steps back: after a wait it stands still for a moment."""
        now = self._monotonic()
        if now >= self._due:
            self._ahead = self._processor() - now
            self._due = now + LOOK_EVERY
        processor = now + self._ahead
        if processor > self._last:
            self._last = processor
        return self._last


BUDGET = 0.05  # seconds of processor time that a signature may take for one event
OFFENCES = 10  #: events over the budget within 60 s -> the signature is muted for 60 s: `signature_muted`
WINDOW = 60.0  # seconds
MUTED_FOR = 60.0  # seconds; not for good, so that costly messages of a stranger do not end a detection


class TimeBudget:
    """The processor time of each signature and event.

    `processor` is the processor time of this thread (default: `ProcessorClock`): neither waiting for a lookup nor
    another process counts. The time that a signature spends in `report`, where other signatures handle its finding, is
    not its own.
    """

    def __init__(
        self,
        seconds: float = BUDGET,
        processor: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.exceeded: Counter[str] = Counter()  # events over the budget, by signature
        self.missed: Counter[str] = Counter()  # events that a muted signature did not receive, by signature
        self.muted: dict[str, float] = {}  # until when, by muted signature
        self.spent: defaultdict[str, float] = defaultdict(float)  # seconds of processor time, by signature
        self._seconds = seconds
        self._processor = processor or ProcessorClock().seconds
        self._monotonic = monotonic
        self._looked = 0.0
        self._offences: dict[str, deque[float]] = {}
        self._log = structlog.get_logger()

    def mutes(self, signature: str) -> bool:
        """Return whether a signature is muted, and count the event that it misses."""
        if signature not in self.muted:
            return False
        if self._monotonic() >= self.muted[signature]:
            del self.muted[signature]
            return False
        self.missed[signature] += 1
        return True

    def begin(self) -> float:
        """Begin to measure; return the time since the last look at the clock, which `resume` takes back."""
        now = self._processor()
        passed, self._looked = now - self._looked, now
        return passed

    def charge(self, signature: str) -> None:
        """Charge the time since the last look at the clock to a signature."""
        now = self._processor()
        spent, self._looked = now - self._looked, now
        self.spent[signature] += spent
        if spent > self._seconds:
            self._note_offence(signature, spent)

    def resume(self, passed: float) -> None:
        """Continue a measurement that had lasted `passed` seconds when another one began within it."""
        self._looked = self._processor() - passed

    def _note_offence(self, signature: str, spent: float) -> None:
        """Count an event over the budget; mute the signature if it is the last of OFFENCES within WINDOW."""
        self.exceeded[signature] += 1
        if self.exceeded[signature] == 1:
            self._log.warning("signature_over_budget", signature=signature, seconds=spent, budget=self._seconds)
        now = self._monotonic()
        offences = self._offences.setdefault(signature, deque(maxlen=OFFENCES))
        offences.append(now)
        if len(offences) == OFFENCES and now - offences[0] <= WINDOW:
            offences.clear()
            self.muted[signature] = now + MUTED_FOR
            self._log.error("signature_muted", signature=signature, seconds=MUTED_FOR, over_budget=OFFENCES)
