"""The event that led to a finding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from dnstrail_findings.dns_message import DnsMessage, PrintedQuestion


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

    @cached_property
    def message(self) -> DnsMessage | None:
        """The DNS message."""
        try:
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
        return self.message is not None and self.message.qr == 1

    def _end(self, side: str) -> ExchangeEnd:
        port = self.args.get(f"{side}_port")
        return ExchangeEnd(self.text(side), port if isinstance(port, int) else 0)


def values_of(args: Any) -> dict[str, Any]:
    """Return the values of arguments in tracee's shape, by name."""
    named = [argument for argument in args if isinstance(argument, dict)] if isinstance(args, list) else []
    return {str(argument.get("name")): argument.get("value") for argument in named}
