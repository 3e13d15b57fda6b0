"""The answers of a host as a reader of its history receives them, in the order in which they were stored."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec


class SpoolPosition(NamedTuple):
    """A place in the history: the number of a segment, and the last transaction that was read in it.

    `start`, `batch` and `place` identify this transaction: a segment that is written anew has other numbers.
    """

    segment: int = 0
    number: int = 0
    start: str = ""
    batch: int = 0
    place: int = 0


class AnswerContent(msgspec.Struct, frozen=True, eq=False):
    """A question with its asker and its answer: one object for all answers of a segment with this content.

    `relations` are (owner, type, target) in the order of the answer. Unknown texts are "".
    """

    question: str
    program: str
    container: str
    image: str
    relations: tuple[tuple[str, int, str], ...]


class SpooledAnswer(NamedTuple):
    """An answer: its time (ns of wall time), and a TTL (s) for each relation of its content."""

    ended: int
    content: AnswerContent
    ttls: tuple[int, ...]
    doubted: bool


class SpoolPart(NamedTuple):
    """A part of the history, and the position behind it.

    `read` counts the transactions that were read, also those without an answer. `behind` counts the segments after
    the one that was read last, and `dropped` those that were removed before they were read. `is_end` states that
    nothing was left to read.
    """

    answers: list[SpooledAnswer]
    position: SpoolPosition
    read: int
    behind: int
    dropped: int
    is_end: bool


class AnswerSpool(Protocol):
    """The history of a host, which keeps what was not read yet."""

    def read(self, position: SpoolPosition, most: int) -> SpoolPart:
        """Return what follows a position: `most` transactions at most, of one segment.

        Raises:
            SettingsError: A later version of dnstrail wrote the history.
            OSError, sqlite3.Error: It cannot be read now.
        """
