"""The answers of a segment as a past image applies them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from dnstrail.captured import Process
from dnstrail.dns.names import reverse_address
from dnstrail.history.rows import DOUBTED, Asker, Row, flag_of, pack_flags, process_of
from dnstrail.image.bounds import SECOND

_GIVEN: Final = """
    SELECT transactions.id, ended, texts.text, type, host, source, destination, resolver, flags, ttls, pid,
        programs.name, programs.path, parent_pid, user_id, container_id, thread_id, cgroup_id, container_name,
        container_image, mount_namespace, pid_namespace, start_time, owner, unit, slice, labels
    FROM transactions JOIN texts ON texts.id = transactions.name JOIN endings ON endings.id = ending
    JOIN paths ON paths.id = transactions.path LEFT JOIN processes ON processes.id = transactions.process
    LEFT JOIN programs ON programs.id = program"""
IS_ADMITTED: Final = f"flags & 3 = {pack_flags(True, None, None, None)}"
LAST_ANSWERS: Final = (
    f"{_GIVEN} WHERE answer = ? AND ended <= ? AND {IS_ADMITTED} ORDER BY transactions.id DESC LIMIT ?"
)
ANSWERS_BETWEEN: Final = (
    f"{_GIVEN} WHERE answer = ? AND ended BETWEEN ? AND ? AND {IS_ADMITTED} ORDER BY transactions.id"
)
_TTLS: Final = "SELECT transactions.id, ended, ttls FROM transactions JOIN endings ON endings.id = ending"
LAST_TTLS: Final = f"{_TTLS} WHERE answer = ? AND ended <= ? AND {IS_ADMITTED} ORDER BY transactions.id DESC LIMIT ?"
ONE_WITH_TTLS: Final = f"{_TTLS} WHERE transactions.id = ? AND {IS_ADMITTED}"
ONE_ANSWER: Final = f"{_GIVEN} WHERE transactions.id = ? AND {IS_ADMITTED}"
_UNDOUBTED: Final = pack_flags(True, None, False, None)
_NUMBERS = msgspec.msgpack.Decoder(tuple[int, ...]).decode
_Times = list[tuple[int, int, bytes]]
_Head = tuple[int, int, str, int, str, bytes | None, bytes | None, bytes | None, int, bytes]


class GivenAnswer(NamedTuple):
    """An admitted answer of a segment, by the number of its transaction. `ended` and the `lives` are in ns.

    One with the number 0 stands for a sum: `ended` is the time of the first one, and the lives lead to the latest ends.
    """

    number: int
    ended: int
    question: str
    lives: tuple[int, ...]
    flags: int
    type: int = 0
    host: str = ""
    client: bytes = b""
    server: bytes = b""
    process: Process | None = None

    @property
    def end(self) -> int:
        """The latest end of the relations."""
        return self.ended + max(self.lives)

    @property
    def doubted(self) -> bool:
        """Whether the answer matches no query, while events were lost."""
        return bool(flag_of(self.flags, DOUBTED))


def read_undoubted(question: str, rows: Iterable[Row]) -> Iterator[GivenAnswer]:
    """Yield transactions that gave an answer to one question, without their clients.

    Raises:
        msgspec.ValidationError: A value has another type, since the file is damaged.
    """
    for number, ended, ttls in msgspec.convert([*rows], _Times):
        yield GivenAnswer(number, ended, question, tuple(ttl * SECOND for ttl in _NUMBERS(ttls)), _UNDOUBTED)


def read_answers(rows: Iterable[Row]) -> Iterator[GivenAnswer]:
    """Yield the transactions whose answers the image held.

    Raises:
        msgspec.ValidationError: A value has another type, since the file is damaged.
    """
    for row in rows:
        number, ended, name, rdtype, host, client, destination, resolver, flags, ttls = msgspec.convert(row[:10], _Head)
        process = None if row[10] is None else process_of(msgspec.convert(row[10:], Asker))
        server = resolver or destination or b""
        lives = tuple(ttl * SECOND for ttl in _NUMBERS(ttls))
        question = question_of(name)
        yield GivenAnswer(number, ended, question, lives, flags, rdtype, host, client or b"", server, process)


def question_of(name: str) -> str:
    """Return the question for a name as the image knows it: a reverse name is its address."""
    return reverse_address(name) or name
