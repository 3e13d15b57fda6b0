"""The events that the probes have published, as the ends of their turns state it: nobody can have missed more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from dnstrail.events import DNS_ANSWER_CONFLICT, LOSS_REASONS, NET_PACKET_DNS, PUBLISHED
from dnstrail.protocol.batches import TURN, Turn

#: losses of one reason (`signature_errors`, `findings_lost`, ...) that a worker reports for each published event, and
#: before the first one -> further ones do not count: `losses_beyond_published`
_LOSSES_OF_EVENT = 1024  # each signature can fail at each event. As many are believed before the first


class Published:
    """The number of published events by name, and of turns, of all starts since each began."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def note(self, turn: Turn, earlier: Turn | None) -> None:
        """Count what a start published since an earlier turn; None is its begin."""
        self._counts[TURN] += max(turn.turn - earlier.turn, 0) if earlier else turn.turn + 1
        before = _events(earlier) if earlier else {}
        for name, count in _events(turn).items():
            if name in PUBLISHED:
                self._counts[name] += max(count - before.get(name, 0), 0)

    @property
    def most_missed(self) -> dict[str, int]:
        """The greatest number of events that one worker can have missed, by event name or reason."""
        events = sum(self._counts[name] for name in PUBLISHED)
        most = {name: self._counts[name] for name in (*PUBLISHED, TURN)}
        most[DNS_ANSWER_CONFLICT] = self._counts[NET_PACKET_DNS]  # the cache publishes them: an answer has one at most
        return {**most, **dict.fromkeys(LOSS_REASONS, (events + 1) * _LOSSES_OF_EVENT)}


def _events(turn: Turn) -> Mapping[str, int]:
    """Return the number of events by name; without it that of batches, which a subscriber counts then."""
    if turn.published is not None:
        return turn.published
    return {name: last + 1 for name, last in turn.last.items()}
