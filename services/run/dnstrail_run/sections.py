"""The sections of a report as rows of text, the same for each form of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from rich.filesize import decimal

from dnstrail_run.report import (
    UNKNOWN,
    AskedName,
    Conflict,
    DnsServer,
    Program,
    ReachedAddress,
    Refusal,
    RunReport,
    StartedContainer,
)
from dnstrail_run.verdict import OBJECTION, attempt_of, bracketed, objects

_KILO = 1000
NO_NAME = "(no name)"
_CONNECTED = ("name", "address", "result", "sent / received", "process")
_CONFLICT = ("name", "believed at first", "by further answers", "more")
_ASKED = ("name", "outcome", "questions", "asked by")
_SERVER = ("server", "questions", "process")
_SHORT = 12  # characters of the id of a container


class _Sum(NamedTuple):
    sent: str
    received: str
    unknown: int  # connections whose bytes are not in the sum


def total_of(connections: Iterable[ReachedAddress]) -> str:
    """Return the bytes of connections in words."""
    found = _sum(connections)
    if found is None:
        return f"bytes {UNKNOWN}"
    return f"{'at least ' if found.unknown else ''}{found.sent} sent, {found.received} received"


def cell_of(connections: Iterable[ReachedAddress]) -> str:
    """Return the bytes of connections for a cell of a table: sent / received."""
    found = _sum(connections)
    if found is None:
        return UNKNOWN
    return f"{found.sent} / {found.received}" + (f" + {found.unknown} {UNKNOWN}" if found.unknown else "")


def _sum(connections: Iterable[ReachedAddress]) -> _Sum | None:
    """Add up the known bytes; None if those of all connections are unknown."""
    some = [*connections]
    unknown = sum(one.bytes_unknown for one in some)
    counted = [one for one in some if one.bytes_sent is not None]
    if unknown and not counted:
        return None
    sent, received = sum(one.bytes_sent or 0 for one in counted), sum(one.bytes_received or 0 for one in counted)
    return _Sum(_text(sent), _text(received), unknown)


def _text(count: int) -> str:
    return f"{count} B" if count < _KILO else decimal(count)


class Section(NamedTuple):
    """One table of a report: its title, the heads of its columns, and its rows."""

    title: str
    heads: Sequence[str]
    rows: list[Sequence[str]]


def summary(report: RunReport) -> str:
    """Return one line about the whole report."""
    connections = sum(sum(one.results.values()) for one in report.connections)
    addresses = len({one.address for one in report.connections})
    parts = [
        f"exit code {report.exit_code}" + (f" (of dnstrail: {OBJECTION})" if objects(report) else ""),
        f"{report.seconds:.1f} s",
        f"{_number(len(report.names), 'name')} asked",
        f"{_number(connections, 'connection')} to {_number(addresses, 'address', 'addresses')}",
        *([total_of(report.connections)] if report.connections else []),
        *([f"{_number(sum(one.times for one in report.refused), 'attempt')} refused"] if report.refused else []),
        *([f"{_number(len(report.containers), 'container')} started meanwhile"] if report.containers else []),
        "capture complete" if report.coverage.complete else "capture INCOMPLETE",
    ]
    return ", ".join(parts)


def _number(count: int, one: str, several: str = "") -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def sections(report: RunReport) -> list[Section]:
    """Return the tables of a report that have rows, the verdict first."""
    found = [
        Section("Not allowed", ("",), [(text,) for text in report.not_allowed]),
        Section("Failed", ("",), [(text,) for text in report.failed]),
        Section("Refused", ("name", "tried", "times", "process"), [*map(_refused, report.refused)]),
        Section("Conflicting answers", _CONFLICT, [*map(_conflict, report.conflicts)]),
        Section("Connections", _CONNECTED, _connections(report.connections)),
        Section("Connections without a name", _CONNECTED, _connections(report.unnamed)),
        Section("Names asked", _ASKED, [*map(_name, report.names)]),
        Section("Encrypted DNS", _CONNECTED, _connections(report.encrypted)),
        Section("DNS to other servers", _SERVER, [*map(_server, report.foreign_dns)]),
        *_of_containers(report),
        Section("Coverage", ("",), [(text,) for text in _coverage(report)]),
    ]
    return [section for section in found if section.rows]


def _of_containers(report: RunReport) -> list[Section]:
    """Return the tables of the containers that started meanwhile."""
    all_of = report.containers
    judged = "judged like the command" if report.followed else "related by time alone"
    heads = ("container", "image", "names", "connections", "sent / received")
    return [
        Section(f"Containers that started meanwhile ({judged})", heads, [*map(_container, all_of)]),
        Section(
            "Connections of these containers", _CONNECTED, _connections(one for of in all_of for one in of.connections)
        ),
        Section("Names asked by these containers", _ASKED, [_name(one) for of in all_of for one in of.names]),
        Section("DNS of these to other servers", _SERVER, [_server(one) for of in all_of for one in of.foreign_dns]),
    ]


def _container(one: StartedContainer) -> Sequence[str]:
    made = sum(sum(row.results.values()) for row in one.connections)
    return one.name or one.id[:_SHORT], one.image, str(len(one.names)), str(made), cell_of(one.connections)


def _connections(found: Iterable[ReachedAddress]) -> list[Sequence[str]]:
    return [*map(_reached, sorted(found, key=_order))]


def _name(one: AskedName) -> Sequence[str]:
    return one.name or ".", one.outcome, str(one.questions), _program(one.asked_by)


def _reached(one: ReachedAddress) -> Sequence[str]:
    results = ", ".join(f"{name} {count}x" if count > 1 else name for name, count in one.results.items())
    end = f"{bracketed(one.address)}:{one.port}/{one.transport}"
    return one.name or NO_NAME, end, results, cell_of([one]), _program(one.program)


def _refused(one: Refusal) -> Sequence[str]:
    return one.name or NO_NAME, attempt_of(msgspec.structs.replace(one, name="")), str(one.times), _program(one.program)


def _conflict(one: Conflict) -> Sequence[str]:
    return one.name, ", ".join(one.believed), ", ".join(one.surplus), str(one.more)


def _server(one: DnsServer) -> Sequence[str]:
    return f"{bracketed(one.address)}:{one.port}", str(one.questions), _program(one.program)


def _program(program: Program) -> str:
    where = f" in {program.container[:_SHORT]}" if program.container else ""
    return f"{program.name}({program.pid}){where}"


def _order(one: ReachedAddress) -> tuple[bool, str, str, int]:
    return not one.name, one.name, one.address, one.port


def _coverage(report: RunReport) -> list[str]:
    beyond = report.containers_left_out
    containers = [f"{beyond} events of containers exceeded the bounds."] if beyond else []
    left = [_left(report)] if report.left else []
    hidden = [f"Hidden from the command: {', '.join(report.hidden)}."] if report.hidden else []
    whole = "No event was lost." if report.coverage.complete else "Something may be missing:"
    return [
        whole,
        *report.coverage.missed,
        *report.enforcement,
        *report.rights,
        *hidden,
        *report.files,
        *left,
        *containers,
        f"Never captured: {report.coverage.never_captured}.",
    ]


def _left(report: RunReport) -> str:
    """Return a sentence about the processes that outlived the command."""
    more = report.left - len(report.left_names)
    names = ", ".join([*report.left_names, *([f"{more} more"] if more else [])])
    return f"{_number(report.left, 'process', 'processes')} of the command still ran at its end: {names}."
