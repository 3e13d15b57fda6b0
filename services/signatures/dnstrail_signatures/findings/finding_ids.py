"""The ids of findings: each follows from its signature and its event, so that a receiver can drop a second report."""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b

from dnstrail.signature import Finding

MOST = 4096  # events whose reports are counted
_BYTES = 16


class FindingIds:
    """Numbers the reports of a signature for one event, which the id contains. An event that is too old begins anew."""

    def __init__(self) -> None:
        self._reports: OrderedDict[tuple[str, str, str], int] = OrderedDict()

    def of(self, finding: Finding) -> str:
        """Return the id of a finding."""
        event = finding.event
        key = (finding.metadata.id, event.event_name, event.id or str(event.timestamp))
        number = self._reports[key] = self._reports.get(key, -1) + 1
        self._reports.move_to_end(key)
        if len(self._reports) > MOST:
            self._reports.popitem(last=False)
        text = "\0".join((*key, str(number)))
        return blake2b(text.encode(errors="replace"), digest_size=_BYTES).hexdigest()
