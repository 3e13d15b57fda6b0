"""Questions that brought no data: the last one of each name, within bounds (docs/inside/image.md)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from dnstrail.dns.header import outcome_of_rcode
from dnstrail.image.answer import PartyKey
from dnstrail.image.bounds import Counts
from dnstrail.image.evidence import AskedBy, Evidence, asked_by

#: names with a question that brought no data -> an owner with more than half gives up its oldest, else the oldest of
#: all goes: `evicted_failures`
MOST_FAILURES: Final = 4096


class FailedQuestion(AskedBy, frozen=True, kw_only=True):
    """A question that brought no data: its type (a number), its outcome, its time (s), who asked, and who answered.

    The outcome is "NXDOMAIN", "no data", "refused", "failed", or "rcode N". Unknown fields are "" or 0.
    """

    type: int
    outcome: str
    time: float


class Failure:
    """A response without data: its stamp (ns), its rcode, and the evidence."""

    __slots__ = ("evidence", "rcode", "stamp")

    def __init__(self, stamp: int, rcode: int, evidence: Evidence) -> None:
        self.stamp = stamp
        self.rcode = rcode
        self.evidence = evidence

    def shown(self, time: float) -> FailedQuestion:
        """Return it as a reply shows it, with its time in seconds."""
        return FailedQuestion(
            **asked_by(self.evidence),
            type=self.evidence.type,
            outcome=outcome_of_rcode(self.rcode),
            time=time,
        )


class Failures:
    """The last failure of each name, of `most` names at most. A name belongs to the owner that asked for it first.

    Beyond `most` an owner with more than half of the names gives up its oldest one, else the oldest of all goes.
    """

    def __init__(self, counters: Counts, most: int = MOST_FAILURES) -> None:
        self._counters = counters
        self._most = most
        self._last: OrderedDict[str, tuple[PartyKey, Failure]] = OrderedDict()
        self._owners: dict[PartyKey, OrderedDict[str, None]] = {}

    def note(self, name: str, owner: PartyKey, failure: Failure) -> None:
        """Note a failure, which becomes the youngest one."""
        known = self._last.get(name)
        owner = owner if known is None else known[0]
        names = self._owners.setdefault(owner, OrderedDict())
        self._last[name], names[name] = (owner, failure), None
        self._last.move_to_end(name)
        names.move_to_end(name)
        if len(self._last) > self._most:
            self._evict(next(iter(names if len(names) > self._most // 2 else self._last)))

    def last(self, name: str, until: int | None = None) -> Failure | None:
        """Return the last failure of a name; None if there is none, or if it came after `until`."""
        known = self._last.get(name)
        if known is None or (until is not None and known[1].stamp > until):
            return None
        return known[1]

    def _evict(self, name: str) -> None:
        owner, _ = self._last.pop(name)
        names = self._owners[owner]
        del names[name]
        if not names:
            del self._owners[owner]
        self._counters["evicted_failures"] += 1
