"""Values that several formats share: times, DNS mnemonics, escaped names, maps without empty values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dns.rcode

from dnstrail.dns.names import address_text
from dnstrail.tracee.codes import RESPONSE_CODES
from dnstrail_findings.dns_message import DnsMessage
from dnstrail_findings.finding import Finding

MOST_ANSWERS = 64  # of one message
_RCODES = {words: dns.rcode.to_text(dns.rcode.Rcode.make(code)) for code, words in RESPONSE_CODES.items()}
_FLAGS = ("aa", "tc", "rd", "ra")
_PRINTABLE = range(0x21, 0x7F)
_QUOTED = b'\\"'
_EMPTY: tuple[Any, ...] = (None, "", {}, [])


def timestamp(nanoseconds: int) -> str:
    """Return a time as RFC 3339 in UTC, with microseconds."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest // 1000:06d}Z"


def escaped(name: str) -> str:
    """Return a name as tracee prints it with each byte escaped that is not plain (RFC 1035, section 5.1)."""
    return "".join(map(_escaped, name.encode(errors="replace")))


def _escaped(byte: int) -> str:
    if byte in _QUOTED:
        return f"\\{byte:c}"
    return chr(byte) if byte in _PRINTABLE else f"\\{byte:03d}"


def response_code(message: DnsMessage) -> str:
    """Return the mnemonic of a response code, "" for one that tracee does not name."""
    return _RCODES.get(message.response_code, "")


def flags(message: DnsMessage) -> list[str]:
    """Return the names of the flags that are set."""
    return [name.upper() for name in _FLAGS if getattr(message, name)]


def addresses(finding: Finding) -> list[str]:
    """Return the addresses of the ends of the cause, and those of its answers, each once."""
    cause = finding.cause
    answers = cause.message.answers[:MOST_ANSWERS] if cause.message else []
    found = (cause.client.address, cause.server.address, *(answer.ip for answer in answers))
    return [*dict.fromkeys(text for text in found if address_text(text) is not None)]


def host_names(finding: Finding) -> list[str]:
    """Return the names of the question, of the answers, of a connection and of its trail, each once."""
    cause = finding.cause
    message = cause.message
    asked = [question.name for question in message.questions[:1]] if message else []
    answers = [answer.cname for answer in message.answers[:MOST_ANSWERS]] if message else []
    trail = finding.explained.get("trail") or {}
    found = [*map(escaped, [*asked, *answers]), *cause.names[:MOST_ANSWERS], trail.get("dns_root", "")]
    return [*dict.fromkeys(filter(None, found))]


def without_empty(value: Any) -> Any:
    """Return maps and lists without unknown values: null, "", and empty maps and lists."""
    if isinstance(value, dict):
        return {key: kept for key, each in value.items() if (kept := without_empty(each)) not in _EMPTY}
    if isinstance(value, list):
        return [kept for each in value if (kept := without_empty(each)) not in _EMPTY]
    return value
