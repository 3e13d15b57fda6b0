"""The sections of a report as rows of text, the same for each form of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from rich.filesize import decimal

from dnstrail_cli.run.report import UNKNOWN, DnsServer, Program, ReachedAddress, Refusal, Report
from dnstrail_cli.run.verdict import attempt_of, bracketed

NO_NAME = "(no name)"


class Section(NamedTuple):
    """One table of a report: its title, the heads of its columns, and its rows."""

    title: str
    heads: Sequence[str]
    rows: list[Sequence[str]]


def summary(report: Report) -> str:
    """Return one line about the whole report."""
    connections = sum(sum(one.results.values()) for one in report.connections)
    addresses = len({one.address for one in report.connections})
    parts = [
        f"exit code {report.exit_code}",
        f"{report.seconds:.1f} s",
        f"{_number(len(report.names), 'name')} asked",
        f"{_number(connections, 'connection')} to {_number(addresses, 'address', 'addresses')}",
        *([_total(report)] if report.connections else []),
        *([f"{_number(sum(one.times for one in report.refused), 'attempt')} refused"] if report.refused else []),
        "capture complete" if report.coverage.complete else "capture INCOMPLETE",
    ]
    return ", ".join(parts)


def _number(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def _total(report: Report) -> str:
    """Return the bytes of all connections as text."""
    counted = [one for one in report.connections if one.bytes_sent is not None]
    if not counted:
        return "bytes unknown"
    sent = sum(one.bytes_sent or 0 for one in counted)
    received = sum(one.bytes_received or 0 for one in counted)
    least = "at least " if any(one.bytes_unknown for one in report.connections) else ""
    return f"{least}{decimal(sent)} sent, {decimal(received)} received"


def sections(report: Report) -> list[Section]:
    """Return the tables of a report that have rows, the verdict first."""
    connected = ("name", "address", "transport", "result", "sent / received", "process")
    found = [
        Section("Not allowed", ("",), [(text,) for text in report.not_allowed]),
        Section("Failed", ("",), [(text,) for text in report.failed]),
        Section("Refused", ("name", "tried", "times", "process"), [*map(_refused, report.refused)]),
        Section("Connections", connected, [*map(_reached, sorted(report.connections, key=_order))]),
        Section("Connections without a name", connected, [*map(_reached, report.unnamed)]),
        Section("Names asked", ("name", "outcome", "questions", "asked by"), _names(report)),
        Section("Encrypted DNS", connected, [*map(_reached, report.encrypted)]),
        Section("DNS to other servers", ("server", "questions", "process"), [*map(_server, report.foreign_dns)]),
        Section("Coverage", ("",), [(text,) for text in _coverage(report)]),
    ]
    return [section for section in found if section.rows]


def _names(report: Report) -> list[Sequence[str]]:
    return [(one.name or ".", one.outcome, str(one.questions), _program(one.asked_by)) for one in report.names]


def _reached(one: ReachedAddress) -> Sequence[str]:
    results = ", ".join(f"{name} {count}x" if count > 1 else name for name, count in one.results.items())
    end = f"{bracketed(one.address)}:{one.port}"
    return one.name or NO_NAME, end, one.transport, results, _bytes(one), _program(one.program)


def _bytes(one: ReachedAddress) -> str:
    """Return the bytes of connections as text."""
    if one.bytes_sent is None or one.bytes_received is None:
        return UNKNOWN
    others = f" + {one.bytes_unknown} {UNKNOWN}" if one.bytes_unknown else ""
    return f"{decimal(one.bytes_sent)} / {decimal(one.bytes_received)}{others}"


def _refused(one: Refusal) -> Sequence[str]:
    return one.name or NO_NAME, attempt_of(msgspec.structs.replace(one, name="")), str(one.times), _program(one.program)


def _server(one: DnsServer) -> Sequence[str]:
    return f"{bracketed(one.address)}:{one.port}", str(one.questions), _program(one.program)


def _program(program: Program) -> str:
    where = f" in {program.container[:12]}" if program.container else ""
    return f"{program.name}({program.pid}){where}"


def _order(one: ReachedAddress) -> tuple[bool, str, str, int]:
    return not one.name, one.name, one.address, one.port


def _coverage(report: Report) -> list[str]:
    left = [f"{report.left} processes of the command still ran at its end."] if report.left else []
    whole = "No event was lost." if report.coverage.complete else "Something may be missing:"
    return [
        whole,
        *report.coverage.missed,
        *report.enforcement,
        *left,
        f"Never captured: {report.coverage.never_captured}.",
    ]
