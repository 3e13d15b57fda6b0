"""Query roots: questions that hold a place in the image, what their answers brought, and who asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dnstrail.events import Flow, Process

if TYPE_CHECKING:
    from dnstrail.image.relation import Relation

MAX_ANSWERS = 32  # of one root that are remembered one by one


class Answer(NamedTuple):
    """One answer to a question, and the circumstances: what trails tell. Times are seconds since the epoch.

    `matched`: its query was seen. `foreign`: whether its server is none of those that the asker is configured to ask,
    None where that is not known.
    """

    noted: float
    stamp: float
    type: int
    flow: Flow | None
    process: Process | None
    matched: bool
    foreign: bool | None


class Root:
    """A question, the relations that its answers brought, and the youngest of those answers.

    It holds its place from its answer on, until its relations have ended or it is evicted.
    """

    __slots__ = ("answers", "name", "relations")

    def __init__(self, name: str) -> None:
        self.name = name
        self.relations: dict[Relation, None] = {}
        self.answers: list[Answer] = []

    def remember(self, answer: Answer) -> None:
        """Keep an answer, and let go of the eldest where there are too many."""
        self.answers.append(answer)
        if len(self.answers) > MAX_ANSWERS:
            del self.answers[0]

    def forget(self) -> None:
        """Hold nothing any more: whoever still waits for its end shall not keep what it held."""
        self.relations = {}
        self.answers = []
