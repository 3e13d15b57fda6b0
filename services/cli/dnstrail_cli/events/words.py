"""Events and findings in words: each is a line for a person."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdatatype
from rich.cells import cell_len, set_cell_size
from rich.filesize import decimal

from dnstrail.connection_names import DST_DNS
from dnstrail.dns import is_response
from dnstrail.dns.names import address_text
from dnstrail.events import (
    DNS_SOCKET_CLOSE,
    NET_PACKET_DNS,
    NET_SERVER_NAME,
    NET_TCP_CLOSE,
    NET_TCP_CONNECT,
    NET_TCP_CONNECT_RESULT,
    NET_UDP_CLOSE,
    NET_UDP_CONNECT,
    SCHED_PROCESS_EXEC,
    SCHED_PROCESS_EXIT,
    SCHED_PROCESS_FORK,
    Event,
)
from dnstrail.process.terminal import escape_unprintable
from dnstrail.tracee.resource_record import TextBudget

_LIKE = re.compile(r"\[?([0-9A-Fa-f.:]{2,})(?:\]:\d+)?")
QUERY, ANSWER, PROBLEM, CONNECTION, PROCESS, FINDING = "dim", "green", "yellow", "blue", "magenta", "bold red"
_MORE = "\u2026"
_SEARCHED = 16  # items of one line among which the first address is found
_TRIGGER = "triggeredBy"  # the argument of a finding with the event that led to it
_RCODES = {
    dns.rcode.NXDOMAIN: "no such name (NXDOMAIN)",
    dns.rcode.SERVFAIL: "the server failed (SERVFAIL)",
    dns.rcode.REFUSED: "the server refused (REFUSED)",
    dns.rcode.FORMERR: "the server could not read the query (FORMERR)",
    dns.rcode.NOTIMP: "the server cannot do this (NOTIMP)",
}


def ends_of_addresses(line: str) -> Iterator[tuple[int, int]]:
    """Yield the place at which each address of a line begins, and at which it ends with its port."""
    for like in _LIKE.finditer(line):
        text = like[1].strip(".")
        if address_text(text) or address_text(text.rpartition(":")[0]):
            yield like.span()


def has_address(text: str) -> bool:
    """Return whether a text contains an address."""
    return next(ends_of_addresses(text), None) is not None


class Words(NamedTuple):
    """A line about one event: a text that always appears, a list that may be shortened, and a style of rich.

    Both are free of control bytes.
    """

    text: str
    items: tuple[str, ...] = ()
    style: str = ""

    def fitted(self, room: int | None) -> str:
        """Return the line in at most `room` cells (None: as long as it is); "+3 more" stands for items left out.

        The line is longer where it would end before or within its first address.
        """
        whole = self.text + ", ".join(self.items)
        if room is None or cell_len(whole) <= room:
            return whole
        kept = max(self._that_fit(room), self._to_address())
        left = len(self.items) - kept
        line = self.text + ", ".join([*self.items[:kept], *([f"+{left} more"] if left else [])])
        if cell_len(line) <= room:
            return line
        place = len(set_cell_size(line, max(room - 1, 0)))
        for number, (begin, end) in enumerate(ends_of_addresses(line)):
            if place < end and (begin < place or number == 0):
                place = end
        return line[:place] + _MORE if place < len(line) else line

    def _to_address(self) -> int:
        """Return the number of items up to the first one with an address, 0 if the text or none of them has one."""
        if has_address(self.text):
            return 0
        return next((place for place, item in enumerate(self.items[:_SEARCHED], 1) if has_address(item)), 0)

    def _that_fit(self, room: int) -> int:
        """Return how many items fit beside a "+N more", at least one if there is any."""
        used = cell_len(self.text) + len(f"+{len(self.items)} more")
        for place, item in enumerate(self.items):
            used += cell_len(item) + len(", ")
            if used > room:
                return max(place, 1)
        return len(self.items)


def cut(text: str, room: int) -> str:
    """Return text in at most `room` cells; an ellipsis stands for its end."""
    return text if cell_len(text) <= room else set_cell_size(text, max(room - 1, 0)) + _MORE


def event_words(event: Event) -> Words:
    """Return an event in words; an event without words of its own shows its arguments."""
    words = _WORDS.get(event.event_name)
    return words(event) if words else _arguments(event.event_name, {**event.captured.args, **event.args}, "")


def client_of(event: Event) -> str:
    """Return the address of the client of a DNS message, or of a connection; "" if it is unknown."""
    flow = event.captured.flow
    if flow is None:
        return ""
    return flow.destination_text if is_response(event.captured.payload) else flow.source_text


def client_of_finding(finding: dict[str, Any]) -> str:
    """Return the address of the client whose DNS message triggered a finding; "" if it is unknown."""
    match _values(finding).get(_TRIGGER):
        case {"args": [*args]}:
            values = {str(arg.get("name")): arg.get("value") for arg in args if isinstance(arg, dict)}
        case _:
            return ""
    match values:
        case {"dst": str(client), "proto_dns": {"QR": 1}} | {"src": str(client)}:
            return client
    return ""


def finding_words(finding: dict[str, Any]) -> Words:
    """Return a finding, a map in tracee's shape, in words: its name and its data."""
    data = {name: value for name, value in _values(finding).items() if name != _TRIGGER}
    return _arguments(str(finding["eventName"]), data, FINDING)


def _values(shaped: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a map in tracee's shape, by name."""
    return {arg["name"]: arg["value"] for arg in shaped["args"]}


def _arguments(name: str, args: dict[str, Any], style: str) -> Words:
    shown = [f"{key}={_value(value)}" for key, value in args.items()]
    return Words(f"{escape_unprintable(name)} ", tuple(map(escape_unprintable, shown)), style)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    if not isinstance(value, dict):
        return str(value)
    questions = value.get("questions")  # a DNS message, as tracee writes it
    return " ".join(f"{one.get('name')}/{one.get('type')}" for one in questions) if questions else f"{{{_MORE}}}"


def _message(event: Event) -> Words:
    message = event.dns
    if message is None:
        return Words(f"a DNS message that cannot be read ({len(event.captured.payload)} bytes)", style=PROBLEM)
    opcode = "" if message.opcode() == dns.opcode.QUERY else f"{dns.opcode.to_text(message.opcode())} "
    asked = escape_unprintable(opcode + (_question(message) or "no question"))
    if not message.flags & dns.flags.QR:
        return Words(f"{asked} ?", style=QUERY)
    if message.rcode() != dns.rcode.NOERROR:
        return Words(f"{asked} -> {_RCODES.get(message.rcode(), dns.rcode.to_text(message.rcode()))}", style=PROBLEM)
    targets = [escape_unprintable(target) for target in _targets(message)]
    if not targets:
        return Words(f"{asked} -> {'truncated' if message.flags & dns.flags.TC else 'no data'}", style=PROBLEM)
    return Words(f"{asked} -> ", tuple(targets), ANSWER)


def _question(message: dns.message.Message) -> str:
    return ", ".join(
        f"{dns.rdatatype.to_text(rrset.rdtype)} {rrset.name.to_text(omit_final_dot=True)}" for rrset in message.question
    )


def _targets(message: dns.message.Message) -> Iterator[str]:
    """Yield the answers as text, up to the bound of a message."""
    budget = TextBudget()
    for rdata in (rdata for rrset in message.answer for rdata in rrset):
        if not budget.take(len(rdata.to_wire() or b"")):
            yield _MORE
            return
        yield _target(rdata)


def _target(rdata: dns.rdata.Rdata) -> str:
    """Return an answer as text: the address, the name without its final dot, or the presentation form."""
    return rdata.to_text().removesuffix(".") or "."


def _connection(event: Event) -> Words:
    names = event.arg(DST_DNS)
    shown = map(str, names) if isinstance(names, list) else ()
    text = _endpoint(event) + (" " if names else "")
    return Words(text, tuple(map(escape_unprintable, shown)), CONNECTION)


def _result(event: Event) -> Words:
    if event.arg("connected"):
        return Words(f"{_endpoint(event)} connected", style=CONNECTION)
    error = event.arg("error")
    failed = f"failed ({error})" if error else "given up"
    return Words(f"{_endpoint(event)} {escape_unprintable(failed)}", style=PROBLEM)


def _close(event: Event) -> Words:
    sent, received = event.arg("bytes_sent"), event.arg("bytes_received")
    counted = ""
    if isinstance(sent, int) and isinstance(received, int):
        counted = f" ({decimal(sent)} sent, {decimal(received)} received)"
    return Words(f"{_endpoint(event)} closed{counted}", style=CONNECTION)


def _server_name(event: Event) -> Words:
    called = f"{_endpoint(event)} called {event.arg('server_name')} ({event.arg('evidence')})"
    return Words(escape_unprintable(called), style=CONNECTION)


def _endpoint(event: Event) -> str:
    address, port = str(event.arg("dst") or "?"), event.arg("dst_port")
    udp = "/udp" if event.event_name in (NET_UDP_CONNECT, NET_UDP_CLOSE) else ""
    return escape_unprintable(f"-> [{address}]:{port}{udp}" if ":" in address else f"-> {address}:{port}{udp}")


def _exec(event: Event) -> Words:
    return Words(f"exec {escape_unprintable(event.executable.path or event.process_name)}", style=PROCESS)


def _exit(event: Event) -> Words:
    signal, code = event.arg("signal_code"), event.arg("exit_code")
    how = f" by signal {signal}" if signal else f" with code {code}" if code else ""
    return Words(f"exit{how}", style=PROCESS)


def _fork(event: Event) -> Words:
    child = event.arg("child_pid")
    return Words("fork" if child is None else f"fork {child}", style=PROCESS)


_WORDS: dict[str, Callable[[Event], Words]] = {
    NET_PACKET_DNS: _message,
    NET_TCP_CONNECT: _connection,
    NET_UDP_CONNECT: _connection,
    NET_TCP_CONNECT_RESULT: _result,
    NET_TCP_CLOSE: _close,
    NET_UDP_CLOSE: _close,
    DNS_SOCKET_CLOSE: _close,
    NET_SERVER_NAME: _server_name,
    SCHED_PROCESS_EXEC: _exec,
    SCHED_PROCESS_EXIT: _exit,
    SCHED_PROCESS_FORK: _fork,
}
