"""One answer: the circumstances of its message, and its relations (docs/inside/image.md)."""

from __future__ import annotations

from dnstrail.captured import Flow, Process

Edge = tuple[str, int, str]  # one relation: owner, type, target
CGROUP = "cgroup"  # the sort of a party that is a cgroup
CLIENT = "client"  # the sort of a client of a server, known by its address
PartyKey = tuple[str, str, int]  # a party: its host, "cgroup" or "namespace" or "", and the number of this
ShareKey = tuple[str, str, int, int]  # a party, and the number of its owner


class Circumstances:
    """The context of one captured DNS message, as far as the source knows it.

    `flow` and `process` belong to the packet. `live` states that the source is live, and no file. `foreign` states
    that the server is none of the asker's configured resolvers; None means unknown. `asked` states that the question
    was captured together with its answer, as by getaddrinfo: such an answer needs no query. `host` is the host on which
    the packet was captured. `behind` states that the image is behind: owners beyond their part of the work are skipped.
    `batch` and `place` name the event among all events of all probes. `relay` is the process (pid, start) to whose
    socket NAT passes the question.
    """

    __slots__ = ("asked", "batch", "behind", "flow", "foreign", "host", "live", "place", "process", "relay")

    def __init__(
        self,
        flow: Flow | None = None,
        process: Process | None = None,
        live: bool = False,
        foreign: bool | None = None,
        asked: bool = False,
        host: str = "",
        behind: bool = False,
        batch: str = "",
        place: int = 0,
        relay: tuple[int, int] | None = None,
    ) -> None:
        self.flow = flow
        self.process = process
        self.live = live
        self.foreign = foreign
        self.asked = asked
        self.host = host
        self.behind = behind
        self.batch = batch
        self.place = place
        self.relay = relay


class Answer:
    """A response that states relations: its question, that question's type, its `edges`, and the life of each (ns).

    Each edge occurs once. A life is without grace.
    """

    __slots__ = ("edges", "lives", "question", "type")

    def __init__(
        self, question: str, rdtype: int = 0, edges: tuple[Edge, ...] = (), lives: tuple[int, ...] = ()
    ) -> None:
        self.question = question
        self.type = rdtype
        self.edges = edges
        self.lives = lives
