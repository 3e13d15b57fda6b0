"""A transaction that has not ended: a question that waits for its answer (docs/inside/image.md)."""

from __future__ import annotations

from typing import Final

from dnstrail.captured import FORWARDER, Flow, Process
from dnstrail.dns.header import HeaderQuestion
from dnstrail.image.admission import Verdict
from dnstrail.image.answer import Answer, Circumstances
from dnstrail.image.facts.transaction import (
    NO_RCODE,
    OF_CLIENT,
    OF_FORWARDER,
    SERVED,
    UNKNOWN,
    Transaction,
)

Key = tuple[object, ...]  # of a query, as in queries.py
Received = tuple[str, int, int, bytes]  # a process that serves (host, pid, start), and a question that it received

_NO_RESPONSE: Final = Verdict()


class Pending:
    """One question, with its retries from one socket.

    `key` is that of its query at the socket nearest to the asker, and `client` identifies it by the client's address.
    `flow` is that of this socket, which is the asker's own if the packet left. `server` is the process that owns a
    socket at which the question arrived, and `received` its place among the questions to this process. `first` and
    `latest` are the stamps of the first and the last try. `answered` is the stamp of its answer, 0 without one. `ended`
    is the transaction while other captures of the question may still come. `others` are the keys of its other captures,
    and `before` is the question before that had the same bytes.
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
        return f"{self.batch}/{self.place}"

    def follow(self, before: Pending) -> None:
        """Note the question before that had the same bytes. Of these questions the last three are linked."""
        self.before = before
        if before.before is not None:
            before.before.before = None

    def send(self, key: Key, client: Key, flow: Flow, stamp: int, process: Process | None) -> None:
        """Note that the question was captured at the asker's own socket, too."""
        self.key, self.client, self.flow, self.process = key, client, flow, process
        self.first, self.latest = min(self.first, stamp), max(self.latest, stamp)

    def transaction(
        self,
        ended: int,
        outcome: str,
        rcode: int = NO_RCODE,
        answer: Answer | None = None,
        foreign: bool | None = None,
        verdict: Verdict = _NO_RESPONSE,
    ) -> Transaction:
        """Return it as it ended."""
        flow = self.flow
        return Transaction(  # by position: names cost more than values
            self.batch,
            self.place,
            self.host,
            self.first,
            ended,
            self.name,
            self.asked.type,
            self.process,
            flow,
            hop_of(flow),
            outcome,
            rcode,
            self.tries,
            answer,
            verdict.matched,
            verdict.doubted,
            foreign,
            (verdict.admitted or verdict.copy) and outcome != UNKNOWN,
            self.asked_for,
        )


def hop_of(flow: Flow) -> str:
    """Return the hop of a question."""
    if not flow.egress:
        return SERVED
    return OF_FORWARDER if flow.role == FORWARDER else OF_CLIENT
