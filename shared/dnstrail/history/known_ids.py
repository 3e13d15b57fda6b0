"""The ids of the facts that were received last: a cache that catches up publishes some again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from dnstrail.history.fact import FactId

#: batches whose facts are known, by stage -> the one noted first is forgotten: its facts count again if they are
#: published again
MOST_BATCHES: Final = 65_536


class KnownIds:
    """Ids by batch and stage, each place one bit. Beyond MOST_BATCHES the batch that was noted first is forgotten."""

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[str, int, str], int] = OrderedDict()

    def has(self, identity: FactId, stage: str = "") -> bool:
        """Return whether an id is known."""
        return bool(self._places.get((identity.start, identity.batch, stage), 0) >> identity.place & 1)

    def add(self, identity: FactId, stage: str = "") -> bool:
        """Note an id, of a connection with its stage; return False if it is known."""
        batch, place = (identity.start, identity.batch, stage), 1 << identity.place
        places = self._places.get(batch, 0)
        if places & place:
            return False
        self._places[batch] = places | place
        if len(self._places) > MOST_BATCHES:
            self._places.popitem(last=False)
        return True
