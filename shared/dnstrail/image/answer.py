"""One answer: the circumstances of its message, its evidence, and its relations (docs/image.md)."""

from __future__ import annotations

import msgspec

from dnstrail.captured import Flow, Process

Edge = tuple[str, int, str]  # one relation: owner, type, target
CGROUP = "cgroup"  # the sort of a party that is a cgroup
PartyKey = tuple[str, str, int]  # a party: its host, "cgroup" or "namespace" or "", and the number of this


class Circumstances(msgspec.Struct, frozen=True, gc=False):
    """The context of one captured DNS message, as far as the source knows it.

    `flow` and `process` belong to the packet. `live` states that the source is live, and no file. `foreign` states
    that the server is none of the asker's configured resolvers; None means unknown. `asked` states that the question
    was captured together with its answer, as by getaddrinfo: such an answer needs no query. `host` is the host on which
    the packet was captured.
    """

    flow: Flow | None = None
    process: Process | None = None
    live: bool = False
    foreign: bool | None = None
    asked: bool = False
    host: str = ""


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """The asker of a question, its type, and the server that answered; answers with equal evidence share one object.

    `process` is the asker, never the server. `client` and `server` are packed addresses, b"" if unknown. `matched`
    states that the query was captured. `foreign` means the same as in Circumstances.
    """

    type: int
    process: Process | None
    client: bytes
    server: bytes
    matched: bool
    foreign: bool | None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An admitted response that states relations: its `edges`, and the life of each one (ns, without grace).

    `stamp` is the time of the packet (ns since the epoch). `noted` is the time that the stream had reached when the
    packet came: with a live source the stamp, in a file the greatest stamp so far. `party` asked the question.
    `doubted` states that the answer matches no query, and counts because events of its party were lost.
    """

    question: str
    edges: tuple[Edge, ...]
    lives: tuple[int, ...]
    stamp: int
    noted: int
    evidence: Evidence
    party: PartyKey
    doubted: bool
