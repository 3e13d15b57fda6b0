"""One answer to a question, and the circumstances in which a message was captured (docs/lookups.md)."""

from __future__ import annotations

from typing import NamedTuple

from dnstrail.captured import Flow, Process


class Circumstances(NamedTuple):
    """The context of one captured DNS message, as far as the source knows it.

    `flow` and `process` belong to the packet. `live` states that the source watches the present, not a file. `foreign`
    states that the server is none of the asker's configured resolvers; None means unknown. `asked` states that the
    question was captured together with its answer, as by getaddrinfo: such an answer needs no matching query.
    """

    flow: Flow | None = None
    process: Process | None = None
    live: bool = False
    foreign: bool | None = None
    asked: bool = False


class Answer(NamedTuple):
    """One admitted answer to a question: the evidence that trails report. Times are seconds since the epoch.

    `stamp` is the time of the packet. `noted` is the time at which the stream had reached it: the stamp of a live
    source; in a file the greatest stamp so far, which a late packet does not turn back. `process` is the asker, never
    the server. `matched` states that the query was captured. `foreign` has the meaning that it has in Circumstances.
    """

    noted: float
    stamp: float
    type: int
    flow: Flow | None
    process: Process | None
    matched: bool
    foreign: bool | None
