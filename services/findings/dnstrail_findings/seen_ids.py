"""The ids of findings that were written: a second report of a finding is dropped."""

from __future__ import annotations

from collections import OrderedDict

MOST = 65_536  #: ids of findings that are known -> the oldest is forgotten: its second report is written


class SeenIds:
    """The ids that were seen last. Beyond MOST the oldest is forgotten."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, finding: str) -> bool:
        """Note an id; return False if it was seen before. An empty id is always new."""
        if not finding:
            return True
        if finding in self._ids:
            return False
        self._ids[finding] = None
        if len(self._ids) > MOST:
            self._ids.popitem(last=False)
        return True
