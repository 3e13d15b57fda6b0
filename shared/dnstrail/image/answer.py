"""Query roots: questions that hold a place in the image, what their answers brought, and who asked."""

from __future__ import annotations

from typing import NamedTuple

from dnstrail.captured import Flow, Process


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
