"""The line of a DNS message: the question, and the answers or the reason why there are none."""

from __future__ import annotations

from collections.abc import Iterator

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype

from dnstrail.dns.whole_message import TextBudget
from dnstrail.events.event import Event
from dnstrail.events.specification import Line

_MORE = "\u2026"
_RCODES = {
    dns.rcode.NXDOMAIN: "no such name (NXDOMAIN)",
    dns.rcode.SERVFAIL: "the server failed (SERVFAIL)",
    dns.rcode.REFUSED: "the server refused (REFUSED)",
    dns.rcode.FORMERR: "the server could not read the query (FORMERR)",
    dns.rcode.NOTIMP: "the server cannot do this (NOTIMP)",
}


def message_line(event: Event) -> Line:
    """Return the line of an event that carries a DNS message."""
    message = event.dns
    if message is None:
        return Line(f"a DNS message that cannot be read ({len(event.captured.payload)} bytes)", kind="problem")
    opcode = "" if message.opcode() == dns.opcode.QUERY else f"{dns.opcode.to_text(message.opcode())} "
    asked = opcode + (_question(message) or "no question")
    if not message.flags & dns.flags.QR:
        return Line(f"{asked} ?", kind="query")
    if message.rcode() != dns.rcode.NOERROR:
        return Line(f"{asked} -> {_RCODES.get(message.rcode(), dns.rcode.to_text(message.rcode()))}", kind="problem")
    targets = tuple(_targets(message))
    if not targets:
        return Line(f"{asked} -> {'truncated' if message.flags & dns.flags.TC else 'no data'}", kind="problem")
    return Line(f"{asked} -> ", targets, "answer")


def _question(message: dns.message.Message) -> str:
    return ", ".join(
        f"{dns.rdatatype.to_text(rrset.rdtype)} {rrset.name.to_text(omit_final_dot=True)}" for rrset in message.question
    )


def _targets(message: dns.message.Message) -> Iterator[str]:
    """Yield the answers, each an address, a name without its final dot, or the presentation form, up to the bound."""
    budget = TextBudget()
    for rdata in (rdata for rrset in message.answer for rdata in rrset):
        if not budget.spend(len(rdata.to_wire() or b"")):
            yield _MORE
            return
        yield rdata.to_text().removesuffix(".") or "."
