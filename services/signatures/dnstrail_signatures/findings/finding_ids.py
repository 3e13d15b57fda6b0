"""The ids of findings: each follows from its signature and its event, so that a receiver can drop a second report."""

from __future__ import annotations

from collections import Counter, OrderedDict
from hashlib import blake2b

from dnstrail.events import Event
from dnstrail.signature import Finding

MOST = 4096  # events whose reports are counted
_BYTES = 16


class FindingIds:
    """Numbers the reports of a signature for one event, which the id contains. An event that is too old begins anew."""

    def __init__(self) -> None:
        self._reports: OrderedDict[str, Counter[tuple[str, str]]] = OrderedDict()  # by the id of their event

    def of(self, finding: Finding) -> str:
        """Return the id of a finding."""
        event = finding.begun_by or finding.event
        key, reported = (finding.metadata.id, event.event_name), event.id or str(event.timestamp)
        reports = self._reports.setdefault(reported, Counter())
        number = reports[key]
        reports[key] += 1
        self._reports.move_to_end(reported)
        if len(self._reports) > MOST:
            self._reports.popitem(last=False)
        text = "\0".join((*key, reported, str(number)))
        return blake2b(text.encode(errors="replace"), digest_size=_BYTES).hexdigest()

    def repeat(self, event: Event) -> None:
        """Begin the numbers of the reports for an event anew: it is handled again."""
        self._reports.pop(event.id, None)
