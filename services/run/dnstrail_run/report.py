"""The report about a command: plain values, as `--report FILE.json` contains them."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from dnstrail.protocol.batches import Turn

BLIND = (
    "datagrams of UDP sockets that are not connected, except DNS; raw sockets; connections to this command; names "
    "behind encrypted DNS; what a service does for the command; containers that start meanwhile are listed by "
    "themselves"
)
ANSWERED, NO_DATA, NXDOMAIN, REFUSED, FAILED, UNANSWERED = OUTCOMES = (  # of a question, the best first
    "answered",
    "no data",
    "NXDOMAIN",
    "refused",
    "failed",
    "unanswered",
)
UNKNOWN = "unknown"  # the result of a connection


class Program(msgspec.Struct, frozen=True):
    """The process behind a question or a connection; "" and 0 if it is unknown."""

    pid: int
    name: str
    executable: str
    container: str = ""


class AskedName(msgspec.Struct, frozen=True):
    """A name that was asked: its best outcome, the number of questions, the first asker, and the types of questions."""

    name: str
    outcome: str
    questions: int
    asked_by: Program
    types: list[str] = []


class ReachedAddress(msgspec.Struct, frozen=True):
    """Connections of one process to one address and port under one name.

    `name` is the likeliest name, "" if none is known, and `others` the further names of the address. `results` counts
    the outcomes: "connected", the name of an error, or "unknown", which the outcome of a UDP socket always is.
    `bytes_sent` and `bytes_received` are the sums over the connections that have ended, None if none has;
    `bytes_unknown` is the number of the others: connections that are still open, and UDP sockets.
    """

    name: str
    address: str
    port: int
    transport: str
    program: Program
    results: dict[str, int]
    others: list[str] = []
    bytes_sent: int | None = None
    bytes_received: int | None = None
    bytes_unknown: int = 0


class Refusal(msgspec.Struct, frozen=True):
    """An attempt of one process that `--enforce` refused, and how often.

    `action` is "reach", for a connection or a datagram to an address; "bind", for port 53 of this host; "socket", for a
    socket of another transport than TCP and UDP, which has no address; or "ask", for a question to the resolver
    `address`, with its `type` and the `reason`: "unreadable", or what is not in the list: "name", "type", "resolver".
    "state" is a connection that stated the name `name` ("other": it is none that led to the address), or none
    ("unstated"). `name` is "" if none is known.
    """

    action: str
    name: str
    address: str
    port: int
    transport: str
    program: Program
    times: int
    type: str = ""
    reason: str = ""


class Conflict(msgspec.Struct, frozen=True):
    """Answers to one question of a command that contradict each other, by the first addresses of each side.

    `believed` are those of the answers that it asked for, which led there at first, and `surplus` the others of the
    answers beyond. `more` counts further addresses.
    """

    name: str
    believed: list[str]
    surplus: list[str]
    more: int


class DnsServer(msgspec.Struct, frozen=True):
    """A server that is none of the configured resolvers, and the number of questions to it."""

    address: str
    port: int
    questions: int
    program: Program


class StartedContainer(msgspec.Struct, frozen=True):
    """A container that started while the command ran, by whomever, and what it reached; "" if its name is unknown.

    `labels` are those that the probe reads.
    """

    id: str
    name: str
    image: str
    names: list[AskedName]
    connections: list[ReachedAddress]
    foreign_dns: list[DnsServer]
    labels: dict[str, str] = {}


class Coverage(msgspec.Struct, frozen=True):
    """The completeness of a report: `complete` is true if no event was lost; `missed` states what may be missing.

    `never_captured` is what no report contains.
    """

    complete: bool
    missed: list[str]
    never_captured: str


class RunReport(msgspec.Struct, frozen=True):
    """Everything that a command and all that it started reached.

    `started` (epoch) and `seconds` are the time of the command. `left` counts the processes that outlived it, and
    `left_names` names some. `encrypted` are connections that carry encrypted DNS by their port or their name.
    `refused` is what `--enforce` refused, and `conflicts` why it refused addresses of allowed names. `enforcement`
    states in sentences what exceeded its bounds, and whether processes left the cgroup. `rights` states what the rights
    of the command mean for `--enforce`, and `hidden` names the sockets of services that the command does not find.
    `files` states which files of this run something else wrote to or replaced meanwhile. `containers` started
    meanwhile; they count for the verdict if they are `followed`. `containers_left_out` counts their events beyond the
    bounds. `not_allowed` and `failed` state why the exit code is another one than that of the command.
    """

    command: list[str]
    exit_code: int
    names: list[AskedName]
    connections: list[ReachedAddress]
    unnamed: list[ReachedAddress]
    encrypted: list[ReachedAddress]
    foreign_dns: list[DnsServer]
    coverage: Coverage
    started: float = 0.0
    seconds: float = 0.0
    left: int = 0
    left_names: list[str] = []
    refused: list[Refusal] = []
    conflicts: list[Conflict] = []
    enforcement: list[str] = []
    rights: list[str] = []
    hidden: list[str] = []
    files: list[str] = []
    containers: list[StartedContainer] = []
    containers_left_out: int = 0
    followed: bool = False
    not_allowed: list[str] = []
    failed: list[str] = []


def coverage_of(
    first: Turn | None, last: Turn | None, cgroups: Collection[int] | None, *, bus: int, left_out: int, fault: str
) -> Coverage:
    """Return the coverage between the turns before the start and after the end of a command.

    `cgroups` are those whose losses count; None stands for all. `bus` counts events that the bus lost, and `left_out`
    what exceeded the bounds of the report. `fault` states why the capture ended early, or "".
    """
    missed = [fault] if fault else []
    if first is not None and last is not None:
        missed += _losses(first, last, cgroups)
        if first.start != last.start:
            missed.append("The probe was restarted.")
    if bus:
        missed.append(f"The bus lost {bus} events.")
    if left_out:
        missed.append(f"{left_out} events about further names, connections or servers exceeded the bounds.")
    return Coverage(complete=not missed, missed=missed, never_captured=BLIND)


def _losses(first: Turn, last: Turn, cgroups: Collection[int] | None) -> list[str]:
    """Return the losses of the command: those of its cgroups, and those whose cgroup is unknown."""
    kernel = _at(last, "kernel") - _at(first, "kernel")
    probe = _at(last, "probe") - _at(first, "probe")
    if cgroups is not None and (last.lost_by_cgroup or not kernel):
        kernel = sum(_of_cgroup(last, each) - _of_cgroup(first, each) for each in {*cgroups, 0})
    lost = {"kernel": kernel, "probe": probe}
    return [f"The {hop} lost {count} events." for hop, count in lost.items() if count > 0]


def _at(turn: Turn, hop: str) -> int:
    return sum(turn.lost.get(hop, {}).values())


def _of_cgroup(turn: Turn, cgroup: int) -> int:
    return sum(loss.lost for loss in turn.lost_by_cgroup if loss.cgroup == cgroup)
