"""The classes of signatures with bounded state. They are not compiled: signatures are ordinary classes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from dnstrail.events import Event
from dnstrail.signature import Signature, SignatureContext
from dnstrail_signatures.detection.bounded_state import BoundedTable, Once
from dnstrail_signatures.detection.subjects import party_of


class StatefulSignature(Signature):
    """A signature whose state lies in bounded tables. `evicted` counts the entries that they gave up.

    `suppresses` states whether the settings suppress findings on an event; None: they suppress none.
    """

    suppresses: Callable[[Event], bool] | None = None

    def subject(self, event: Event, *parts: Hashable) -> tuple[Hashable, ...]:
        """Return the subject of an event: its program, and these parts.

        Events whose findings are suppressed are subjects of their own, so that they use up nothing of the others: they
        count to no gate, and begin no `quiet` time.
        """
        return self.is_suppressed(event), party_of(event), *parts

    def is_suppressed(self, event: Event) -> bool:
        """Return whether the settings suppress findings on an event."""
        return self.suppresses is not None and self.suppresses(event)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return all tables of the signature."""
        raise NotImplementedError

    def take_over(self, former: Signature) -> None:
        """Take over what still applies of the state of an instance that a reload replaces: nothing, by default."""

    @property
    def evicted(self) -> int:
        """The number of entries that gave way at the bounds of the tables."""
        return sum(table.evicted for table in self.tables())


class ReportsOnce(StatefulSignature):
    """A signature that reports a subject once in `quiet` seconds, of at most `subjects`: both are in its settings."""

    def init(self, ctx: SignatureContext) -> None:
        """Begin without state."""
        super().init(ctx)
        own: Any = self.settings
        self._once = Once(own.subjects, own.quiet)

    def tables(self) -> tuple[BoundedTable[Any, Any], ...]:
        """Return what was reported."""
        return (self._once.table,)
