"""Events and findings in words: each is a line for a person."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from rich.cells import cell_len, set_cell_size

from dnstrail.dns import is_response
from dnstrail.dns.names import address_text
from dnstrail.events import EVENTS, Event
from dnstrail.events.specification import Line
from dnstrail.process.terminal import escape_unprintable

_LIKE = re.compile(r"\[?([0-9A-Fa-f.:]{2,})(?:\]:\d+)?")
_STYLES = {"query": "dim", "answer": "green", "problem": "yellow", "connection": "blue", "process": "magenta"}
_FINDING = "bold red"
_MORE = "\u2026"
_SEARCHED = 16  # items of one line among which the first address is found
_TRIGGER = "triggeredBy"  # the argument of a finding with the event that led to it


def ends_of_addresses(line: str) -> Iterator[tuple[int, int]]:
    """Yield the place at which each address of a line begins, and at which it ends with its port."""
    for like in _LIKE.finditer(line):
        text = like[1].strip(".")
        if address_text(text) or address_text(text.rpartition(":")[0]):
            yield like.span()


def has_address(text: str) -> bool:
    """Return whether a text contains an address."""
    return next(ends_of_addresses(text), None) is not None


class Words(NamedTuple):
    """A line about one event: a text that always appears, a list that may be shortened, and a style of rich.

    Both are free of control bytes.
    """

    text: str
    items: tuple[str, ...] = ()
    style: str = ""

    def fitted(self, room: int | None) -> str:
        """Return the line in at most `room` cells (None: as long as it is); "+3 more" stands for items left out.

        The line is longer where it would end before or within its first address.
        """
        whole = self.text + ", ".join(self.items)
        if room is None or cell_len(whole) <= room:
            return whole
        kept = max(self._that_fit(room), self._to_address())
        left = len(self.items) - kept
        line = self.text + ", ".join([*self.items[:kept], *([f"+{left} more"] if left else [])])
        if cell_len(line) <= room:
            return line
        place = len(set_cell_size(line, max(room - 1, 0)))
        for number, (begin, end) in enumerate(ends_of_addresses(line)):
            if place < end and (begin < place or number == 0):
                place = end
        return line[:place] + _MORE if place < len(line) else line

    def _to_address(self) -> int:
        """Return the number of items up to the first one with an address, 0 if the text or none of them has one."""
        if has_address(self.text):
            return 0
        return next((place for place, item in enumerate(self.items[:_SEARCHED], 1) if has_address(item)), 0)

    def _that_fit(self, room: int) -> int:
        """Return how many items fit beside a "+N more", at least one if there is any."""
        used = cell_len(self.text) + len(f"+{len(self.items)} more")
        for place, item in enumerate(self.items):
            used += cell_len(item) + len(", ")
            if used > room:
                return max(place, 1)
        return len(self.items)


def cut(text: str, room: int) -> str:
    """Return text in at most `room` cells; an ellipsis stands for its end."""
    return text if cell_len(text) <= room else set_cell_size(text, max(room - 1, 0)) + _MORE


def event_words(event: Event) -> Words:
    """Return an event in words; an event without a line of its own shows its arguments."""
    known = EVENTS.get(event.event_name)
    if known is None or known.line is None:
        return _arguments(event.event_name, {**event.captured.args, **event.args}, "")
    return line_words(known.line(event))


def line_words(line: Line) -> Words:
    """Return a line in words."""
    return Words(escape_unprintable(line.text), tuple(map(escape_unprintable, line.items)), _STYLES[line.kind])


def client_of(event: Event) -> str:
    """Return the address of the client of a DNS message, or of a connection; "" if it is unknown."""
    flow = event.captured.flow
    if flow is None:
        return ""
    return flow.destination_text if is_response(event.captured.payload) else flow.source_text


def client_of_finding(finding: dict[str, Any]) -> str:
    """Return the address of the client whose DNS message triggered a finding; "" if it is unknown."""
    match _values(finding).get(_TRIGGER):
        case {"args": [*args]}:
            values = {str(arg.get("name")): arg.get("value") for arg in args if isinstance(arg, dict)}
        case _:
            return ""
    match values:
        case {"dst": str(client), "proto_dns": {"QR": 1}} | {"src": str(client)}:
            return client
    return ""


def finding_words(finding: dict[str, Any]) -> Words:
    """Return a finding, a map in tracee's shape, in words: its name and its data."""
    data = {name: value for name, value in _values(finding).items() if name != _TRIGGER}
    return _arguments(str(finding["eventName"]), data, _FINDING)


def _values(shaped: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a map in tracee's shape, by name."""
    return {arg["name"]: arg["value"] for arg in shaped["args"]}


def _arguments(name: str, args: dict[str, Any], style: str) -> Words:
    shown = [f"{key}={_value(value)}" for key, value in args.items()]
    return Words(f"{escape_unprintable(name)} ", tuple(map(escape_unprintable, shown)), style)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if not isinstance(value, dict):
        return str(value)
    questions = value.get("questions")  # a DNS message, as tracee writes it
    return " ".join(f"{one.get('name')}/{one.get('type')}" for one in questions) if questions else f"{{{_MORE}}}"
