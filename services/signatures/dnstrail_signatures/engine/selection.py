"""The signatures that select the events of one name and origin."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable

from dnstrail.dns.header import QR, Header
from dnstrail.events import Event
from dnstrail.signature import RCODE, Signature

Selecting = tuple[tuple[str, Signature], ...]  # with the names that their findings show


class SelectingByMessage:
    """The signatures that select events of one name and origin, by their DNS message where it matters (`by_message`).

    The selectors are asked once for each kind of message. The number of kinds is bounded: types that no selector names
    are one kind.
    """

    def __init__(self, signatures: Iterable[Signature], event: Event) -> None:
        name, origin = event.event_name, event.origin
        self._selectors = [
            (one, selectors)
            for one in signatures
            if (selectors := [each for each in one.selected_events if each.selects_kind(name, origin)])
        ]
        every = [selector for _, selectors in self._selectors for selector in selectors]
        self.by_message = any(selector.by_message for selector in every)
        self._types = frozenset(number for selector in every for number in selector.types)
        self._selecting: dict[Hashable, Selecting] = {}

    def of(self, event: Event) -> Selecting:
        """Return the signatures that select an event, in the order in which they started."""
        kind = _message_kind(event.header, self._types) if self.by_message else None
        selecting = self._selecting.get(kind)
        if selecting is None:
            selecting = self._selecting[kind] = tuple(
                (one.metadata.event_name, one)
                for one, selectors in self._selectors
                if any(selector.selects(event) for selector in selectors)
            )
        return selecting


def _message_kind(header: Header | None, types: Container[int]) -> Hashable:
    """Return a value that two headers share only if the selectors with these `types` select both or none."""
    if header is None:
        return None
    asked = header.asked.type if header.question and header.asked.type in types else None
    return header.flags & (QR | RCODE), header.answer_count > 0, asked
