"""The value of a DNS transaction. It is not compiled, since mypyc shortens the annotations that msgspec reads."""

from __future__ import annotations

from typing import Final

import msgspec

from dnstrail.captured import Flow, Process
from dnstrail.image.answer import Answer

OF_CLIENT: Final = "client"  # the values of `hop`
OF_FORWARDER: Final = "forwarder"
SERVED: Final = "served"

ANSWERED: Final = "answered"  # the values of `outcome`
NO_DATA: Final = "no_data"
NXDOMAIN: Final = "nxdomain"
REFUSED: Final = "refused"
FAILED: Final = "failed"
TRUNCATED: Final = "truncated"
UNANSWERED: Final = "unanswered"
UNKNOWN: Final = "unknown"

NO_RCODE: Final = -1


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """One question of one asker, when it has ended. Times are stamps of the stream (ns).

    `batch` (start and number) and `place` name the event of the first question that was captured, else of the response.
    `asked` is the stamp of the first try, 0 if no question was captured; `ended` is the stamp of the answer, or of the
    decision that none came. `name` is canonical, and `type` a number.

    `hop` states who asked: "client", a process of this host; "forwarder", such a process that also serves others; or
    "served", a client that is known by its address alone. `process` is the asker, None if it is unknown. `flow` leads
    from the client to the server, None where the source states none. `asked_for` is the id of the client's transaction
    for which a forwarder asked, "" if it is unknown.

    `outcome` is that of the records, and `rcode` is -1 without an answer. "unanswered": no answer came within 30 s of
    the last try. "unknown": the question was evicted before, or (with an rcode) its response was skipped unread.

    `answer`, `matched`, `doubted` and `foreign` are those of the first copy of the response that was admitted; `answer`
    contains the relations, and is None if none were read. `admitted` states that the image holds the relations: it had
    rejected an answer that came before its question.
    """

    batch: str
    place: int
    host: str
    asked: int
    ended: int
    name: str
    type: int
    process: Process | None
    flow: Flow | None
    hop: str
    outcome: str
    rcode: int = NO_RCODE
    tries: int = 0
    answer: Answer | None = None
    matched: bool = False
    doubted: bool = False
    foreign: bool | None = None
    admitted: bool = False
    asked_for: str = ""

    @property
    def id(self) -> str:
        """The name of the event."""
        return f"{self.batch}/{self.place}"
