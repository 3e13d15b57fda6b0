"""Dumps: the records of the image in pages, each a short step of the cache."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from dnstrail.image import Image
from dnstrail.image.saved import SavedRecord, saved_records

MOST_DUMPS = 4  #: dumps that go on at the same time -> the oldest ends: `bad_request`
PAGE = 256  # roots of one page
AT_ONCE = 0.005  # seconds for one page: events and other requests wait meanwhile


class Page(msgspec.Struct, frozen=True):
    """Some records, and the cursor of the next page; "" at the end."""

    records: list[SavedRecord]
    next: str


class Dumps:
    """The dumps that go on: the roots of each, as they were at its first page. A further dump ends the oldest.

    A root that was evicted meanwhile is left out, and a root that is new is not contained.
    """

    def __init__(self) -> None:
        self._roots: OrderedDict[str, list[str]] = OrderedDict()

    def page(self, image: Image, cursor: str, difference: int, monotonic: Callable[[], float]) -> Page | None:
        """Return the page of a cursor; "" begins a dump. Return None for a cursor of a dump that has ended."""
        name, _, text = cursor.partition(" ")
        if not cursor:
            name, text = secrets.token_hex(8), "0"
            self._roots[name] = [*image.store.places.roots]
            if len(self._roots) > MOST_DUMPS:
                self._roots.popitem(last=False)
        roots = self._roots.get(name)
        if roots is None or not (text.isascii() and text.isdigit()):
            return None
        self._roots.move_to_end(name)
        place = min(int(text), len(roots))
        records: list[SavedRecord] = []
        until = monotonic() + AT_ONCE
        for root in roots[place : place + PAGE]:
            records += saved_records(image, root, difference)
            place += 1
            if monotonic() >= until:
                break
        if place < len(roots):
            return Page(records, f"{name} {place}")
        del self._roots[name]
        return Page(records, "")
