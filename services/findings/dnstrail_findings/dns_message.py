"""A DNS message as tracee prints it, with typed values."""

from __future__ import annotations

import msgspec


class Question(msgspec.Struct, frozen=True):
    """A question as tracee prints it."""

    name: str
    type: str = ""
    cls: str = msgspec.field(default="", name="class")


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class Answer(msgspec.Struct, frozen=True):
    """A resource record as tracee prints it."""

    name: str
    type: str = ""
    cls: str = msgspec.field(default="", name="class")
    ttl: int = msgspec.field(default=0, name="TTL")
    ip: str = msgspec.field(default="", name="IP")
    ns: str = msgspec.field(default="", name="NS")
    cname: str = msgspec.field(default="", name="CNAME")
    ptr: str = msgspec.field(default="", name="PTR")
    txts: list[str] = msgspec.field(default_factory=list, name="TXTs")
    mx: _Named = msgspec.field(default=_Named(), name="MX")
    srv: _Named = msgspec.field(default=_Named(), name="SRV")
    rdata: str = ""

    @property
    def data(self) -> str:
        """The address, the name or the text that the record states."""
        known = (self.ip, self.cname, self.ns, self.ptr, self.mx.name, self.srv.name, " ".join(self.txts), self.rdata)
        return next(filter(None, known), "")


class DnsMessage(msgspec.Struct, frozen=True):
    """A DNS message as tracee prints it."""

    id: int = msgspec.field(default=0, name="ID")
    qr: int = msgspec.field(default=0, name="QR")
    op_code: str = msgspec.field(default="", name="opCode")
    aa: int = msgspec.field(default=0, name="AA")
    tc: int = msgspec.field(default=0, name="TC")
    rd: int = msgspec.field(default=0, name="RD")
    ra: int = msgspec.field(default=0, name="RA")
    response_code: str = msgspec.field(default="", name="responseCode")
    questions: list[Question] = []
    answers: list[Answer] = []
