"""Entries as lines of Zeek's dns.log and conn.log, as tab-separated values or as JSON.

The fields are those of Zeek 8 in its order (base/protocols/dns/main.zeek, base/protocols/conn/main.zeek), without those
that no fact states, and with the Community ID and the process behind them. A value that is unknown is unset.
"""

from __future__ import annotations

import re
from base64 import b32encode
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import dns.rdatatype

from dnstrail.history.log.entries import LogEntry, LoggedConnection, LoggedQuestion
from dnstrail.process.terminal import json_line
from dnstrail_cli.log_formats.words import community_id_of, rcode_text

_SECOND: Final = 1_000_000_000
_UNSET, _EMPTY, _SET = "-", "(empty)", ","
_UID_BYTES: Final = 10
_HEAD: Final = ("time", "ts"), ("string", "uid"), ("addr", "id.orig_h"), ("port", "id.orig_p"), ("addr", "id.resp_h")
_ENDS: Final = (*_HEAD, ("port", "id.resp_p"), ("enum", "proto"))
_WHO: Final = ("count", "pid"), ("string", "process"), ("string", "container"), ("string", "unit")
_OURS: Final = ("string", "community_id"), *_WHO
_REFUSED: Final = "refused"
_TRUNCATED: Final = "truncated"
_QTYPES: Final = {"ANY": "*"}
_OTHER_TYPE: Final = re.compile(r"TYPE(\d+)", re.ASCII)
_SPECIAL: Final = re.compile(rb"[^ -~]|\\")
_STATES: Final = {"closed": "SF", "ECONNREFUSED": "REJ", "ETIMEDOUT": "S0"}
_OTHER_STATE: Final = "OTH"


class ZeekLog(NamedTuple):
    """A log of Zeek: its path, its fields as types and names, and the values of an entry in their order."""

    path: str
    fields: tuple[tuple[str, str], ...]
    values: Callable[[Any], tuple[Any, ...]]


def _ends(entry: LogEntry, begun: int) -> tuple[Any, ...]:
    return begun, _uid(entry), entry.src, entry.src_port, entry.dst, entry.dst_port, entry.transport


def _ours(entry: LogEntry) -> tuple[Any, ...]:
    container = entry.container_name or entry.container_id
    process = entry.process_id or None, entry.process_name or None
    return community_id_of(entry), *process, container or None, entry.unit or None


def _question(entry: LoggedQuestion) -> tuple[Any, ...]:
    rcode = entry.rcode
    return (
        *_ends(entry, entry.begun),
        None if rcode is None else entry.waited,
        entry.name,
        1,
        "C_INTERNET",
        _number_of(entry.type),
        _qtype(entry.type),
        rcode,
        None if rcode is None else rcode_text(rcode),
        True if entry.outcome == _TRUNCATED else None,
        [target for _, _, target, _ in entry.relations] or None,
        [ttl * _SECOND for _, _, _, ttl in entry.relations] or None,
        entry.outcome == _REFUSED,
        *_ours(entry),
    )


def _connection(entry: LoggedConnection) -> tuple[Any, ...]:
    return (
        *_ends(entry, entry.begun),
        entry.lasted,
        entry.bytes_sent,
        entry.bytes_received,
        _STATES.get(entry.why or entry.error or "", _OTHER_STATE),
        *_ours(entry),
        entry.name,
    )


DNS: Final = ZeekLog(
    "dns",
    (
        *_ENDS,
        ("interval", "rtt"),
        ("string", "query"),
        ("count", "qclass"),
        ("string", "qclass_name"),
        ("count", "qtype"),
        ("string", "qtype_name"),
        ("count", "rcode"),
        ("string", "rcode_name"),
        ("bool", "TC"),
        ("vector[string]", "answers"),
        ("vector[interval]", "TTLs"),
        ("bool", "rejected"),
        *_OURS,
    ),
    _question,
)
CONN: Final = ZeekLog(
    "conn",
    (
        *_ENDS,
        ("interval", "duration"),
        ("count", "orig_bytes"),
        ("count", "resp_bytes"),
        ("string", "conn_state"),
        *_OURS,
        ("string", "resp_name"),
    ),
    _connection,
)


def header(log: ZeekLog, opened: float) -> str:
    """Return the lines before the first one; `opened` is in epoch seconds."""
    lines = (
        "#separator \\x09",
        f"#set_separator\t{_SET}",
        f"#empty_field\t{_EMPTY}",
        f"#unset_field\t{_UNSET}",
        f"#path\t{log.path}",
        f"#open\t{datetime.fromtimestamp(opened, UTC):%Y-%m-%d-%H-%M-%S}",
        "\t".join(("#fields", *(name for _, name in log.fields))),
        "\t".join(("#types", *(kind for kind, _ in log.fields))),
    )
    return "\n".join(lines)


def tsv_line(log: ZeekLog, entry: LogEntry) -> str:
    """Return the values of an entry, separated by tabs."""
    values = zip(log.fields, log.values(entry), strict=True)
    return "\t".join(_UNSET if value is None else _text(kind, value) for (kind, _), value in values)


def json_of(log: ZeekLog, entry: LogEntry) -> str:
    """Return the values of an entry that are known as JSON, as Zeek writes it with `LogAscii::use_json`."""
    values = zip(log.fields, log.values(entry), strict=True)
    return json_line({name: _json(kind, value) for (kind, name), value in values if value is not None})


def _text(kind: str, value: Any) -> str:
    if kind.startswith("vector["):
        return _SET.join(_text(kind[len("vector[") : -1], one).replace(_SET, "\\x2c") for one in value)
    if kind in ("time", "interval"):
        return _seconds(value)
    if kind == "bool":
        return "T" if value else "F"
    return _escaped(value) if kind == "string" else str(value)


def _json(kind: str, value: Any) -> Any:
    if kind == "vector[interval]":
        return [float(_seconds(one)) for one in value]
    return float(_seconds(value)) if kind in ("time", "interval") else value


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds // _SECOND}.{nanoseconds % _SECOND // 1000:06d}"


def _escaped(text: str) -> str:
    """Return a text in which no byte separates, and which is neither the unset nor the empty field."""
    if not text:
        return _EMPTY
    plain = _SPECIAL.sub(lambda found: b"\\x%02x" % found[0][0], text.encode(errors="replace")).decode()
    return f"\\x{ord(plain[0]):02x}{plain[1:]}" if plain in (_UNSET, _EMPTY) or plain[0] == "#" else plain


def _uid(entry: LogEntry) -> str:
    """Return an id that all entries of a socket share, in the form of Zeek's."""
    start = entry.id.partition("/")[0]  # cookies begin anew when the host boots
    what = f"{entry.host} {start} {entry.socket}" if entry.socket else entry.id
    digest = blake2b(what.encode(errors="replace"), digest_size=_UID_BYTES).digest()
    return f"C{b32encode(digest).decode().lower()}"


def _number_of(rdtype: str) -> int:
    return int(dns.rdatatype.from_text(rdtype))


def _qtype(rdtype: str) -> str:
    other = _OTHER_TYPE.fullmatch(rdtype)
    return f"query-{other[1]}" if other else _QTYPES.get(rdtype, rdtype)
