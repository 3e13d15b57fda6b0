"""The event that led to a finding, and its DNS message as tracee prints it, with typed values and their text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import dns.rcode
import msgspec

from dnstrail.dns.names import address_text
from dnstrail.events import DNS_TRANSACTION
from dnstrail.tracee.codes import RESPONSE_CODES

_RCODES = {words: dns.rcode.to_text(dns.rcode.Rcode.make(code)) for code, words in RESPONSE_CODES.items()}
_FLAGS = ("aa", "tc", "rd", "ra")
_PRINTABLE = range(0x21, 0x7F)
_QUOTED = b'\\"'
_ESCAPED = [
    f"\\{byte:c}" if byte in _QUOTED else chr(byte) if byte in _PRINTABLE else f"\\{byte:03d}" for byte in range(256)
]


class PrintedQuestion(msgspec.Struct, frozen=True):
    """A question as tracee prints it."""

    name: str
    type: str = ""
    cls: str = msgspec.field(default="", name="class")


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class PrintedAnswer(msgspec.Struct, frozen=True):
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
    """A DNS message as tracee prints it; that of a transaction has escaped names."""

    id: int = msgspec.field(default=0, name="ID")
    qr: int = msgspec.field(default=0, name="QR")
    op_code: str = msgspec.field(default="", name="opCode")
    aa: int = msgspec.field(default=0, name="AA")
    tc: int = msgspec.field(default=0, name="TC")
    rd: int = msgspec.field(default=0, name="RD")
    ra: int = msgspec.field(default=0, name="RA")
    response_code: str = msgspec.field(default="", name="responseCode")
    questions: list[PrintedQuestion] = []
    answers: list[PrintedAnswer] = []


class _Transaction(msgspec.Struct, frozen=True):
    """The arguments of a `dns_transaction`, whose names are escaped."""

    name: str
    type: str = ""
    rcode: int = -1
    relations: list[tuple[str, str, str, int]] = []


def _message_of(one: _Transaction) -> DnsMessage:
    answers = [_answer_of(*relation) for relation in one.relations]
    question = PrintedQuestion(one.name, one.type, "IN")
    code = RESPONSE_CODES.get(one.rcode, "")
    return DnsMessage(qr=int(one.rcode >= 0), response_code=code, questions=[question], answers=answers)


def _answer_of(owner: str, kind: str, target: str, ttl: int) -> PrintedAnswer:
    if address_text(target):
        return PrintedAnswer(owner, kind, "IN", ttl, ip=target)
    return PrintedAnswer(owner, kind, "IN", ttl, cname=target if kind == "CNAME" else "", rdata=target)


def response_code(message: DnsMessage) -> str:
    """Return the mnemonic of a response code, "" for one that tracee does not name."""
    return _RCODES.get(message.response_code, "")


def flags(message: DnsMessage) -> list[str]:
    """Return the names of the flags that are set."""
    return [name.upper() for name in _FLAGS if getattr(message, name)]


class ExchangeEnd(NamedTuple):
    """One end of an exchange; "" and 0 if it is unknown."""

    address: str = ""
    port: int = 0


@dataclass(frozen=True)
class Cause:
    """The event that led to a finding: its name and its arguments."""

    name: str
    args: dict[str, Any]

    def text(self, name: str) -> str:
        """Return an argument that is text, else ""."""
        value = self.args.get(name)
        return value if isinstance(value, str) else ""

    def escaped(self, text: str) -> str:
        """Return a name or data of the message with each byte escaped that is not plain (RFC 1035, section 5.1)."""
        if self.name == DNS_TRANSACTION:
            return text  # its names are escaped, so that a dot within a label stays one
        return text.encode(errors="replace").decode("latin-1").translate(_ESCAPED)

    @cached_property
    def message(self) -> DnsMessage | None:
        """The DNS message; of a transaction its question and, if there is one, its answer."""
        try:
            if self.name == DNS_TRANSACTION:
                return _message_of(msgspec.convert(self.args, _Transaction))
            return msgspec.convert(self.args["proto_dns"], DnsMessage)
        except (KeyError, msgspec.ValidationError):
            return None

    @property
    def question(self) -> PrintedQuestion | None:
        """The first question of the DNS message."""
        return self.message.questions[0] if self.message and self.message.questions else None

    @property
    def client(self) -> ExchangeEnd:
        """The end that asked, or that opened the connection."""
        return self._end("dst" if self._is_response else "src")

    @property
    def server(self) -> ExchangeEnd:
        """The end that was asked, or to which the connection was opened."""
        return self._end("src" if self._is_response else "dst")

    @property
    def names(self) -> list[str]:
        """The names of the server of a connection, the likeliest first."""
        found = self.args.get("dst_dns")
        return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []

    @property
    def _is_response(self) -> bool:
        return self.message is not None and self.message.qr == 1 and self.name != DNS_TRANSACTION

    def _end(self, side: str) -> ExchangeEnd:
        port = self.args.get(f"{side}_port")
        return ExchangeEnd(self.text(side), port if isinstance(port, int) else 0)


def values_of(args: Any) -> dict[str, Any]:
    """Return the values of arguments in tracee's shape, by name."""
    named = [argument for argument in args if isinstance(argument, dict)] if isinstance(args, list) else []
    return {str(argument.get("name")): argument.get("value") for argument in named}
