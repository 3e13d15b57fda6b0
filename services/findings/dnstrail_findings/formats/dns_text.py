"""The text of a DNS message: names with escapes, and the mnemonics of codes and flags."""

from __future__ import annotations

import dns.rcode

from dnstrail.tracee.codes import RESPONSE_CODES
from dnstrail_findings.dns_message import DnsMessage

_RCODES = {words: dns.rcode.to_text(dns.rcode.Rcode.make(code)) for code, words in RESPONSE_CODES.items()}
_FLAGS = ("aa", "tc", "rd", "ra")
_PRINTABLE = range(0x21, 0x7F)
_QUOTED = b'\\"'


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
