"""A transaction that has not ended: a question that waits for its answer (docs/inside/image.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.captured import FORWARDER, Flow, Process
from dnstrail.dns.header import HeaderQuestion
from dnstrail.dns.names import V4_MAPPED
from dnstrail.image.answer import Circumstances
from dnstrail.image.facts.transaction import (
    NO_RCODE,
    OF_CLIENT,
    OF_FORWARDER,
    SERVED,
    Relation,
    Transaction,
)

Key = tuple[object, ...]  # of a query, as in queries.py
Received = tuple[str, int, int, bytes]  # a process that serves (host, pid, start), and a question that it received
_STAGE: Final = "end"


class Pending:
    """One question, with its retries from one socket.

    `key` is that of its query at the socket nearest to the asker, and `client` identifies it by the client's address.
    `sent` states that this socket is the asker's own. `server` is the process that owns a socket at which the question
    arrived, and `received` its place among the questions to this process. `first` and `latest` are the stamps of the
    first and the last try. `answered` is the stamp of its answer, 0 without one. `ended` is the transaction while other
    captures of the question may still come. `others` are the keys of its other captures, and `before` is the question
    before that had the same bytes.
    """

    tries: int = 1
    asked_for: str = ""
    others: tuple[Key, ...] = ()
    server: Process | None = None
    received: Received | None = None
    answered: int = 0
    ended: Transaction | None = None
    before: Pending | None = None

    def __init__(
        self, key: Key, client: Key, flow: Flow, stamp: int, asked: HeaderQuestion, circumstances: Circumstances
    ) -> None:
        self.key = key
        self.client = client
        self.flow = flow
        self.sent = flow.egress
        self.process: Process | None = circumstances.process if flow.egress else None
        self.host = circumstances.host
        self.batch = circumstances.batch
        self.place = circumstances.place
        self.asked = asked
        self.name = asked.name
        self.first = self.latest = stamp

    @property
    def id(self) -> str:
        """The id of the transaction."""
        return id_of(self.batch, self.place)

    def follow(self, before: Pending) -> None:
        """Note the question before that had the same bytes. Of these questions the last three are linked."""
        self.before = before
        if before.before is not None:
            before.before.before = None

    def send(self, key: Key, client: Key, flow: Flow, stamp: int, process: Process | None) -> None:
        """Note that the question was captured at the asker's own socket, too."""
        self.key, self.client, self.flow, self.process = key, client, flow, process
        self.first, self.latest = min(self.first, stamp), max(self.latest, stamp)
        self.sent = True

    def transaction(
        self,
        ended: int,
        outcome: str,
        rcode: int = NO_RCODE,
        relations: tuple[Relation, ...] = (),
        matched: bool = False,
        doubted: bool = False,
        foreign: bool | None = None,
        admitted: bool = False,
    ) -> Transaction:
        """Return it as it ended."""
        flow = self.flow
        return Transaction(  # by position: names cost more than values
            f"{self.batch}/{self.place}/{_STAGE}",
            self.host,
            self.first,
            ended,
            self.name,
            self.asked.type,
            self.process,
            flow,
            hop_of(flow),
            resolver_of(flow),
            outcome,
            rcode,
            self.tries,
            relations,
            matched,
            doubted,
            foreign,
            admitted,
            self.asked_for,
        )


def id_of(batch: str, place: int) -> str:
    """Return the id of the transaction that an event began."""
    return f"{batch}/{place}/{_STAGE}"


def hop_of(flow: Flow) -> str:
    """Return the hop of a question."""
    if not flow.egress:
        return SERVED
    return OF_FORWARDER if flow.role == FORWARDER else OF_CLIENT


def resolver_of(flow: Flow) -> tuple[bytes, int]:
    """Return the server that the asker of a question meant, before NAT."""
    port = flow.destination_port
    if flow.meant and (flow.egress or not flow.socket):
        return flow.meant.removeprefix(V4_MAPPED), flow.meant_port or port
    return flow.destination.removeprefix(V4_MAPPED), port
