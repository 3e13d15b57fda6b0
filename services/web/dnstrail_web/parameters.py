"""The parameters of the API: how the text of each becomes a value, and its schema in the OpenAPI document."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from dnstrail.captured import LAST_TIME
from dnstrail.process.clock import read_moment
from dnstrail.protocol.lookups import BAD_REQUEST
from dnstrail_web.errors import ApiError

_LAST: Final = LAST_TIME / 1e9  # epoch seconds


class ParameterKind(Protocol):
    """A kind of value."""

    @property
    def required(self) -> bool:
        """Whether it has to be given."""

    @property
    def repeated(self) -> bool:
        """Whether it may be given several times."""

    def value(self, text: str) -> Any:
        """Return the value of a text.

        Raises:
            ValueError: it is none; the text says what is expected.
        """

    def schema(self) -> dict[str, Any]:
        """Return the schema of the text (JSON Schema)."""


class Text(NamedTuple):
    """A text of at most `longest` bytes."""

    longest: int
    required: bool = False
    repeated: bool = False

    def value(self, text: str) -> str:
        """Return the text."""
        if not text or len(text.encode(errors="surrogatepass")) > self.longest or not _is_unicode(text):
            raise ValueError(f"a text of 1 to {self.longest} bytes is expected")
        return text

    def schema(self) -> dict[str, Any]:
        """Return the schema."""
        return {"type": "string", "minLength": 1, "maxLength": self.longest}


class Number(NamedTuple):
    """A whole number within bounds."""

    least: int
    most: int
    required: bool = False
    repeated: bool = False

    def value(self, text: str) -> int:
        """Return the number."""
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(self.most))):
            raise ValueError(f"a number from {self.least} to {self.most} is expected")
        if not self.least <= int(text) <= self.most:
            raise ValueError(f"a number from {self.least} to {self.most} is expected")
        return int(text)

    def schema(self) -> dict[str, Any]:
        """Return the schema."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


class Seconds(NamedTuple):
    """A duration in seconds."""

    required: bool = False
    repeated: bool = False
    most: float = 1e8

    def value(self, text: str) -> float:
        """Return the seconds."""
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= self.most:
            raise ValueError(f"seconds from 0 to {self.most:.0f} are expected")
        return seconds

    def schema(self) -> dict[str, Any]:
        """Return the schema."""
        return {"type": "number", "minimum": 0, "maximum": self.most}


class Time(NamedTuple):
    """A time: epoch seconds, or RFC 3339. One with a fraction is the begin or the end of its last digit."""

    required: bool = False
    repeated: bool = False
    is_begin: bool = False

    def value(self, text: str) -> float:
        """Return the time in epoch seconds."""
        moment = read_moment(text, is_begin=self.is_begin)
        if moment is None:
            raise ValueError("a time is expected: epoch seconds, or RFC 3339")
        return min(max(moment, 0.0), _LAST)

    def schema(self) -> dict[str, Any]:
        """Return the schema."""
        return {"anyOf": [{"type": "number"}, {"type": "string", "format": "date-time"}]}


class Flag(NamedTuple):
    """True or false."""

    required: bool = False
    repeated: bool = False

    def value(self, text: str) -> bool:
        """Return the flag."""
        if text not in ("true", "false"):
            raise ValueError("true or false is expected")
        return text == "true"

    def schema(self) -> dict[str, Any]:
        """Return the schema."""
        return {"type": "boolean"}


class OneOf(NamedTuple):
    """One of some words."""

    words: tuple[str, ...]
    required: bool = False
    repeated: bool = False

    def value(self, text: str) -> str:
        """Return the word."""
        if text not in self.words:
            raise ValueError(f"one of {', '.join(self.words)} is expected")
        return text

    def schema(self) -> dict[str, Any]:
        """Return the schema."""
        return {"type": "string", "enum": [*self.words]}


def read_parameters(given: Iterable[tuple[str, str]], kinds: Mapping[str, ParameterKind]) -> dict[str, Any]:
    """Return the values of texts by their names; a repeated one has a tuple.

    Raises:
        ApiError: one is unknown, missing, given twice, or no such value.
    """
    values: dict[str, Any] = {}
    for name, text in given:
        kind = kinds.get(name)
        if kind is None:
            raise ApiError(BAD_REQUEST, f"unknown parameter {name!r:.40}; known: {', '.join(kinds) or 'none'}")
        try:
            value = kind.value(text)
        except ValueError as error:
            raise ApiError(BAD_REQUEST, f"{name}: {error}") from error
        if kind.repeated:
            value = (*values.get(name, ()), value)
        elif name in values:
            raise ApiError(BAD_REQUEST, f"{name} is given twice")
        values[name] = value
    if missing := [name for name, kind in kinds.items() if kind.required and name not in values]:
        raise ApiError(BAD_REQUEST, f"{missing[0]} is missing")
    return values


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
