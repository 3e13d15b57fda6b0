"""One line for each message: a packet captured at several sockets of the host is shown as captured at its client."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator

from dnstrail.captured import Flow
from dnstrail.dns import is_response
from dnstrail.events import NET_PACKET_DNS, Event
from dnstrail.pipeline.view import Item

#: seconds to wait for the capture at the client's end -> the event is printed as it is
WINDOW = 0.1
MOST = 4096  # messages that are remembered, and items that wait
_NANOSECONDS = 1_000_000_000
# The errors of an item that no worker of ours sends: a value of another type, an impossible address or time.
MALFORMED = (TypeError, ValueError, LookupError, AttributeError, OverflowError)
_Key = tuple[bytes, bytes, int]


class _Slot:
    """One place in the order of output: the best sighting so far, and the end of the wait for a better one."""

    __slots__ = ("deadline", "decided", "item", "timestamp")

    def __init__(self, item: Item, timestamp: int, deadline: float, *, decided: bool) -> None:
        self.item = item
        self.timestamp = timestamp
        self.deadline = deadline
        self.decided = decided


class ClientSightings:
    """Passes one sighting of each message on, in the order of arrival: the client's end, or the only one.

    Sightings belong to one message if bytes, client address and client port are equal, and their stamps are no further
    apart than WINDOW. An item waits at most WINDOW for a better sighting, and at most MOST items wait.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Slot] = deque()
        self._recent: OrderedDict[_Key, _Slot] = OrderedDict()

    def add(self, item: Item, now: float) -> None:
        """Take an event or a finding; `now` is monotonic, in seconds."""
        event = item if isinstance(item, Event) and item.event_name == NET_PACKET_DNS else None
        flow = event.captured.flow if event else None
        if event is None or flow is None:
            self._waiting.append(_Slot(item, 0, now, decided=True))
            return
        key = _key(event, flow)
        decided = not flow.socket or _is_clients_end(event, flow)  # without a socket there is only one end
        slot = self._recent.get(key)
        if slot is not None and abs(event.captured.timestamp - slot.timestamp) <= WINDOW * _NANOSECONDS:
            if decided and not slot.decided:
                slot.item, slot.decided = event, True
            return
        slot = _Slot(event, event.captured.timestamp, now + WINDOW, decided=decided)
        self._waiting.append(slot)
        self._remember(key, slot)

    def ready(self, now: float, *, everything: bool = False) -> Iterator[Item]:
        """Yield the items that are decided or waited long enough, in the order of their arrival."""
        while self._waiting:
            first = self._waiting[0]
            if not (everything or first.decided or first.deadline <= now or len(self._waiting) > MOST):
                return
            first.decided = True  # a later sighting comes too late
            yield self._waiting.popleft().item

    def _remember(self, key: _Key, slot: _Slot) -> None:
        self._recent[key] = slot
        self._recent.move_to_end(key)
        while len(self._recent) > MOST:
            self._recent.popitem(last=False)


def _key(event: Event, flow: Flow) -> _Key:
    if is_response(event.captured.payload):
        return event.captured.payload, flow.destination, flow.destination_port
    return event.captured.payload, flow.source, flow.source_port


def _is_clients_end(event: Event, flow: Flow) -> bool:
    """Return whether a packet was seen at the socket that sent the query, or that received the response."""
    return flow.egress != is_response(event.captured.payload)
