"""The family of facts: what the cache learned from several events, published once it is complete."""

from __future__ import annotations

from functools import partial
from typing import Final

from dnstrail.events.connections import counted, receiver, result_line
from dnstrail.events.specification import FLOW, EventSpecification, Field, Line, Stated

DNS_TRANSACTION: Final = "dns_transaction"
NET_CONNECTION: Final = "net_connection"
ANSWERED: Final = "answered"
OUTCOMES: Final = (ANSWERED, "no_data", "nxdomain", "refused", "failed", "truncated", "unanswered", "unknown")
STAGES: Final = ("opened", "result", "named", "end")
REASONS: Final = ("closed", "process ended", "socket reused", "evicted", "probe gone")
FACT_ID: Final = "id"  # the field that identifies a fact, however often it is published
_OUTCOMES = {
    "no_data": "no data",
    "nxdomain": "no such name (NXDOMAIN)",
    "refused": "the server refused (REFUSED)",
    "failed": "the server failed",
}
_SECOND = 1_000_000_000


def transaction_line(event: Stated) -> Line:
    """Return the line of a question at its end."""
    outcome, tries, waited = str(event.arg("outcome")), event.arg("tries"), event.arg("waited")
    how = [f"{tries} tries"] if isinstance(tries, int) and tries > 1 else []
    how += [_duration(waited)] if isinstance(waited, int) else []
    behind = f" ({', '.join(how)})" if how else ""
    asked = f"{event.arg('type')} {event.arg('name')}"
    if outcome != ANSWERED:
        return Line(f"{asked} -> {_OUTCOMES.get(outcome, outcome)}{behind}", kind="problem")
    targets = tuple(str(target) for _, _, target, _ in event.arg("relations") or ())
    return Line(f"{asked}{behind} -> ", targets, "answer")


def connection_line(event: Stated) -> Line:
    """Return the line of a stage of a connection."""
    stage, name, lasted = event.arg("stage"), event.arg("name"), event.arg("lasted")
    after = f" after {_duration(lasted)}" if isinstance(lasted, int) else ""
    if stage == "result":
        line = result_line(event)
        return line._replace(text=f"{line.text}{after}")
    if stage == "named":
        return Line(f"{receiver(event)} called {name} ({event.arg('bound')})")
    if stage == "end":
        return Line(f"{receiver(event)} {event.arg('why')}{after}{counted(event)}")
    return Line(f"{receiver(event)} ", (str(name),)) if name else Line(receiver(event))


def _duration(nanoseconds: int) -> str:
    if nanoseconds < _SECOND:
        return f"{nanoseconds / 1_000_000:.3g} ms"
    return f"{nanoseconds / _SECOND:.3g} s"


_SRC, _DST, _SRC_PORT, _DST_PORT = FLOW
_TRANSACTION = (
    Field(FACT_ID, "const char*", "the identity of the fact, the same if it is published again"),
    _SRC._replace(meaning="the address of the asker"),
    _DST._replace(meaning="the address of the server"),
    _SRC_PORT._replace(meaning="the port of the asker"),
    _DST_PORT._replace(meaning="the port of the server"),
    Field("transport", "const char*", "udp or tcp"),
    Field("socket", "u64", "the cookie of the socket that asked"),
    Field("resolver", "const char*", "the server that the asker meant, if NAT led to another one"),
    Field("resolver_port", "u16", "the port of this server"),
    Field("hop", "const char*", "client, forwarder (it serves others), or served (a client that is not of this host)"),
    Field("for", "const char*", "the id of the client's question for which a forwarder asked, if it is known"),
    Field("name", "const char*", "the name that was asked"),
    Field("type", "const char*", "the type that was asked"),
    Field("outcome", "const char*", ", ".join(OUTCOMES)),
    Field("rcode", "int", "the response code of the header, if there was a response"),
    Field("tries", "u32", "the questions from one socket, retries included"),
    Field("waited", "u64", "the time since the first question, if one was seen", "ns"),
    Field("relations", "[]relation", "of the answer: owner, kind, target, and TTL in seconds of each"),
    Field("left_out", "u32", "the relations beyond 64 KiB, which are left out"),
    Field("admitted", "bool", "the image holds the relations"),
    Field("matched", "bool", "the answer matches a query"),
    Field("doubted", "bool", "true: the answer matches no query that was seen, while events of its party were lost"),
    Field("foreign", "bool", "the server is none of the asker's configured resolvers, if this is known"),
)
_CONNECTION = (
    _TRANSACTION[0],
    Field("stage", "const char*", ", ".join(STAGES)),
    *FLOW,
    Field("transport", "const char*", "tcp or udp"),
    Field("socket", "u64", "the cookie of the socket, which all its events share"),
    Field("name", "const char*", "the name that the connection means at this stage, if one is known"),
    Field("bound", "const char*", "the way in which the name was found, as `dnstrail connections` states it"),
    Field("lasted", "u64", "the time since the connection was opened", "ns"),
    Field("connected", "bool", "of a result: the connection was established"),
    Field("error", "const char*", "of a result: the name of the errno, if the attempt failed by one"),
    Field("why", "const char*", f"of an end: {', '.join(REASONS)}"),
    Field("bytes_sent", "u64", "of an end, if it is known: as in `net_tcp_close`", "bytes"),
    Field("bytes_received", "u64", "of an end, if it is known: as in `net_tcp_close`", "bytes"),
)
_STAGE = "a connection is opened, has its result, sends a name, or ends; a failed attempt has no end"
_ENDED = "a question of one asker has ended: answered, or not within 30 seconds"
_event = partial(EventSpecification, "facts")
FACTS: Final = (
    _event(DNS_TRANSACTION, 7007, "the cache", _ENDED, _TRANSACTION, line=transaction_line),
    _event(NET_CONNECTION, 7008, "the cache", _STAGE, _CONNECTION, line=connection_line),
)
