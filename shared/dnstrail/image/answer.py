"""One answer: the circumstances of its message, and the evidence that the image holds of it (docs/trails.md)."""

from __future__ import annotations

import msgspec

from dnstrail.captured import Flow, Process

Edge = tuple[str, int, str]  # one relation: owner, type, target
PartyKey = tuple[str, str, int]  # what loses events together: host, the sort of it, and its number


class Circumstances(msgspec.Struct, frozen=True, gc=False):
    """The context of one captured DNS message, as far as the source knows it.

    `flow` and `process` belong to the packet. `live` states that the source watches the present, not a file. `foreign`
    states that the server is none of the asker's configured resolvers; None means unknown. `asked` states that the
    question was captured together with its answer, as by getaddrinfo: such an answer needs no matching query. `host`
    is the host on which the packet was captured.
    """

    flow: Flow | None = None
    process: Process | None = None
    live: bool = False
    foreign: bool | None = None
    asked: bool = False
    host: str = ""


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """Who asked a question, by which type, and which server answered; answers of the same circumstances share one.

    `process` is the asker, never the server. `client` and `server` are packed addresses, b"" if unknown. `matched`
    states that the query was captured. `foreign` has the meaning that it has in Circumstances.
    """

    type: int
    process: Process | None
    client: bytes
    server: bytes
    matched: bool
    foreign: bool | None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An admitted response that states relations: `edges`, and along them their lives (ns, without grace).

    `stamp` is the time of the packet (ns since the epoch). `noted` is the time at which the stream had reached it: the
    stamp of a live source; in a file the greatest stamp so far, which a late packet does not turn back. `party` is who
    asked, as admission names it. `doubted` states that admission could not match the answer because events of its
    party were lost.
    """

    question: str
    edges: tuple[Edge, ...]
    lives: tuple[int, ...]
    stamp: int
    noted: int
    evidence: Evidence
    party: PartyKey
    doubted: bool
