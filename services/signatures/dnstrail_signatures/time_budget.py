"""The time budget of signatures: exceeding it is counted, and doing so repeatedly mutes a signature for a while."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

import msgspec
import structlog

from dnstrail_signatures.processor_clock import ProcessorClock

BUDGET = 0.05  # seconds of processor time that a signature may take for one event
OFFENCES = 10  # events over the budget within WINDOW that mute a signature
WINDOW = 60.0  # seconds
MUTED_FOR = 60.0  # seconds; not for good, so that costly messages of a stranger do not end a detection


class Begun(msgspec.Struct, frozen=True, gc=False):
    """A measurement that has begun: its time, and the time that was spent elsewhere before it."""

    at: float
    elsewhere: float


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
        self.exceeded: Counter[str] = Counter()  # events over the budget, by signature id
        self.missed: Counter[str] = Counter()  # events that a muted signature did not receive, by signature id
        self.spent: dict[str, float] = {}  # seconds of processor time, by signature id
        self._seconds = seconds
        self._processor = processor or ProcessorClock()
        self._monotonic = monotonic
        self._elsewhere = 0.0
        self._offences: dict[str, deque[float]] = {}
        self._muted_until: dict[str, float] = {}
        self._log = structlog.get_logger()

    def mutes(self, signature: str) -> bool:
        """Return whether a signature is muted, and count the event that it misses."""
        if signature not in self._muted_until:
            return False
        if self._monotonic() >= self._muted_until[signature]:
            del self._muted_until[signature]
            return False
        self.missed[signature] += 1
        return True

    def begin(self) -> Begun:
        """Begin to measure."""
        begun = Begun(self._processor(), self._elsewhere)
        self._elsewhere = 0.0
        return begun

    def charge(self, begun: Begun, signature: str) -> Begun:
        """Charge a measurement to a signature, and begin the next one with the same look at the clock."""
        now = self._processor()
        spent = now - begun.at
        own = spent - self._elsewhere
        self._elsewhere = 0.0
        self.spent[signature] = self.spent.get(signature, 0.0) + own
        if own > self._seconds:
            self._note_offence(signature, own)
        return Begun(now, begun.elsewhere + spent)

    def resume(self, begun: Begun) -> None:
        """Go on with the measurement around one that was charged just now."""
        self._elsewhere = begun.elsewhere

    def end(self, begun: Begun) -> None:
        """End a measurement that belongs to no signature."""
        self._elsewhere = begun.elsewhere + self._processor() - begun.at

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
            self._muted_until[signature] = now + MUTED_FOR
            self._log.error("signature_muted", signature=signature, seconds=MUTED_FOR, over_budget=OFFENCES)
