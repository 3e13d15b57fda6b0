"""One run of a command: its settings become a run, the run a report, the report an exit code."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import msgspec

from dnstrail.dns.names import lookup_key
from dnstrail.errors import DnstrailError, SettingsError
from dnstrail.kernel.cgroups import find_cgroup2, running_containers
from dnstrail.pipeline.pipeline import Pipeline
from dnstrail.process.clock import Clock, SystemClock
from dnstrail.process.command import CANNOT_SERVE, full_stderr_ignored
from dnstrail.process.log import configure
from dnstrail.process.terminal import escape_unprintable
from dnstrail.protocol.batches import Turn
from dnstrail.users import User, caller_of_sudo
from dnstrail_run.allow_list import AllowList, add_entry, parse_allow_list
from dnstrail_run.asking import SHOWN
from dnstrail_run.cgroup import cgroups_below
from dnstrail_run.command_process import has_domains
from dnstrail_run.enforce.refusals import refusals, with_names, without_refused
from dnstrail_run.files import Descriptor, OutputFile, RefusalLines, WriterHandle, read_list
from dnstrail_run.followed import Followed, first_privileged
from dnstrail_run.forms import format_of
from dnstrail_run.launcher import Launcher, launch, pass_on_signals
from dnstrail_run.merged_list import merged
from dnstrail_run.namespaces import namespaces_of
from dnstrail_run.notices import Notices
from dnstrail_run.report import Coverage, Refusal, RunReport, coverage_of
from dnstrail_run.run_settings import Settings, enforce_of
from dnstrail_run.verdict import (
    OBJECTION,
    failures,
    is_encrypted_dns,
    is_unnamed,
    judged_part,
    learned,
    not_allowed,
    objects,
)
from dnstrail_run.watch import Joined, is_heard, watching

_CATCHING_UP = 15.0  #: seconds for the events up to the end of the command -> the capture is incomplete
_TURNS = 2  # after the event of that end
#: seconds to wait for the ends of connections after the end of a command -> their bytes are unknown
_CLOSING = 1.0  # a peer acknowledges each
_UNSEEN = (
    "The end of the command was not seen: the probe captures no processes, is behind, or knows them by other numbers "
    "(a container needs the PID namespace of its host)."
)
_LEFT = "Processes of the command left its cgroup: nothing was refused to them."
_IS_ROOT = "The command ran as root: it can leave its cgroup, and nothing is refused to it there."
_WEAKENED = (
    "{} ran without the rights that its file gives (set-id or capabilities): --enforce takes them away, and "
    "--allow-new-privileges keeps them."
)
_STRENGTHENED = (
    "{} ran with the rights that its file gives (set-id or capabilities): a command that becomes root by it can leave "
    "its cgroup, and nothing is refused to it there."
)
_NO_DOMAIN = "This kernel lacks Landlock of Linux 6.12: the command can take sockets of other processes of its user."
_MOUNTS = Path("/proc/self/ns/mnt")


class Run(NamedTuple):
    """A run of a command that has ended: what was followed and refused, its time (epoch) and its seconds.

    `first` and `last` are the turns of the probe before its start and after its end, None without one. `lost` counts
    the events that the bus lost in between. `fault` states why the capture ended early, or "".
    """

    followed: Followed
    refused: list[Refusal]
    started: float
    seconds: float
    first: Turn | None
    last: Turn | None
    lost: int
    fault: str


class Learning(NamedTuple):
    """The list of `--allow-learn` before the run: its text, and its entries with those of included files."""

    text: str
    allowed: AllowList


class _Files(msgspec.Struct, frozen=True):
    """The files of a run, read and opened before it begins."""

    allowed: AllowList | None
    forms: list[Callable[[RunReport], str]]
    writer: WriterHandle
    refusals: RefusalLines
    learning: Learning


def run_session(settings: Settings) -> int:
    """Run the command, write its reports, and return the exit code.

    Raises:
        DnstrailError: the command was not started.
    """
    configure("dnstrail", "warning")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it is ignored, nobody learns how a process ended
    is_root = os.geteuid() == 0
    user = caller_of_sudo() if is_root else None
    with _open_files(settings, user) as files:
        _load_forms(settings, files.forms)
        if settings.learn_domains:
            import_module("dnstrail.registered_domain")  # whose list another user may be unable to read
        if settings.learn is not None or settings.ask:
            lookup_key("\u00fc.example")  # likewise the codecs of names
        find_cgroup2()  # a mount of its own is one of the launcher, too
        enforce = enforce_of(settings, files.allowed, user)
        launcher = launch(settings.command, user, wait_for_all=settings.wait_for_all, enforce=enforce)
        clock = SystemClock()
        if files.allowed is not None:
            show = _silent if settings.quiet else _say
            write = None if settings.refusals is None else files.refusals.append
            notices = Notices(files.allowed, write, show, clock.monotonic)
            launcher.on_first = notices.take
        pass_on_signals(launcher)
        try:
            launcher.wait_for_cgroup()
            run = _run(settings, launcher, clock)
            if files.allowed is not None:
                notices.end(launcher.outcome.limits)
                for approval in launcher.approved:
                    add_entry(files.allowed, approval.line)
            report = _report_of(settings, launcher, run, is_root=is_root and user is None)
        finally:
            launcher.close()
        return _decide(report, settings, files)


@contextmanager
def _open_files(settings: Settings, user: User | None) -> Iterator[_Files]:
    """Read the list, and open the files that are written at the end: the reports, and the list to learn."""
    forms = [format_of(path) for path in settings.reports]
    read = partial(read_list, user=user, trusted=settings.enforce)
    allowed = None if settings.allow is None else parse_allow_list(read(settings.allow), settings.allow, read)
    known = read_list(settings.learn, user) if settings.learn is not None and settings.learn.is_file() else ""
    learning = Learning(known, parse_allow_list(known, settings.learn, partial(read_list, user=user)))
    named = [("--report", path) for path in settings.reports]
    named += [] if settings.learn is None else [("--allow-learn", settings.learn)]
    descriptor = None
    if settings.refusals is not None and settings.refusals.isdecimal():
        descriptor = Descriptor("--refusals", int(settings.refusals))
    elif settings.refusals is not None:
        named += [("--refusals", Path(settings.refusals))]
    files: list[OutputFile] = []
    try:
        for option, path in named:
            files.append(OutputFile(option, path, user))
    except SettingsError:
        for file in files:
            file.discard()
        raise
    if settings.refusals is not None and descriptor is None and not files[-1].is_regular:
        descriptor = files.pop().descriptor()
    writer = WriterHandle(files)
    try:
        lines = RefusalLines(writer, len(files) - 1, descriptor)
        yield _Files(allowed, forms, writer, lines, learning)
    finally:
        writer.close()


def _load_forms(settings: Settings, forms: Sequence[Callable[[RunReport], str]]) -> None:
    """Make an empty report in each form of this run: it loads what another user may be unable to read."""
    nothing = RunReport(["\x1b\u3042"], 0, [], [], [], [], [], Coverage(True, [], ""))
    for form in forms:
        form(nothing)
    if not settings.quiet:
        _table_of(nothing)


def _table_of(report: RunReport) -> str:
    from dnstrail_run.table import table_of  # with rich, which a quiet run does without

    return table_of(report, terminal=sys.stderr.isatty() or None)


def _run(settings: Settings, launcher: Launcher, clock: Clock) -> Run:
    """Run the command under a pipeline; return what it reached."""
    own, *others = namespaces_of({})
    named = {one.cookie: frozenset(one.resolvers) for one in others}
    followed = Followed(launcher.cgroup, frozenset(own.resolvers), partial(cgroups_below, Path(launcher.path)), named)
    capture = "ebpf:getaddrinfo" if settings.getaddrinfo else "ebpf"
    with watching(settings.run_dir, capture, settings.options, followed.take, clock) as watch:
        never = threading.Event()
        watch.work(never, lambda: is_heard(watch) or _has_ended(launcher, followed))
        first, lost, started, began = watch.view.last, watch.view.lost, clock.wall(), clock.monotonic()
        followed.containers.begin(running_containers(find_cgroup2() or ""), started)
        launcher.go()
        try:
            watch.work(never, lambda: _has_ended(launcher, followed, watch.view.last))
            seconds = clock.monotonic() - began
            fault = _UNSEEN if launcher.pid and not _catch_up(watch, launcher, followed, clock) else ""
            followed.complete_names(watch.view.names_of)
            asked = (one.name for one in followed.command.names)
            refused = with_names(_refused(launcher, followed), watch.view.names_of, asked)
        except DnstrailError as error:
            fault = f"The capture failed: {error}"
            seconds = _wait_alone(launcher, clock) - began
            followed.apply()
            refused = _refused(launcher, followed)
        return Run(followed, refused, started, seconds, first, watch.view.last, watch.view.lost - lost, fault)


def _refused(launcher: Launcher, followed: Followed) -> list[Refusal]:
    return refusals(launcher.outcome.attempts, followed.command.connections)


def _report_of(settings: Settings, launcher: Launcher, run: Run, *, is_root: bool) -> RunReport:
    followed, outcome = run.followed, launcher.outcome
    connections = without_refused(outcome.attempts, followed.command.connections)
    return RunReport(
        command=[os.fsencode(argument).decode(errors="backslashreplace") for argument in settings.command],
        exit_code=CANNOT_SERVE if launcher.code is None else launcher.code,
        names=followed.command.names,
        connections=connections,
        unnamed=[one for one in connections if is_unnamed(one)],
        encrypted=[one for one in connections if is_encrypted_dns(one)],
        foreign_dns=followed.command.foreign_dns,
        coverage=_coverage_of(settings, run),
        started=run.started,
        seconds=run.seconds,
        left=launcher.left,
        left_names=launcher.left_names,
        refused=run.refused,
        conflicts=outcome.conflicts,
        enforcement=[
            *(f"At the terminal, {SHOWN[one.verdict].format(one.line)}." for one in launcher.approved),
            *outcome.limits.notes,
            *([_LEFT] if settings.enforce and followed.has_left else []),
        ],
        rights=_rights_of(settings, launcher, followed, is_root=is_root) if settings.enforce else [],
        hidden=launcher.hidden,
        containers=followed.containers.reports(),
        containers_left_out=followed.containers.left_out,
        followed=settings.follow_containers,
    )


def _coverage_of(settings: Settings, run: Run) -> Coverage:
    command, containers = run.followed.command.left_out, run.followed.containers.left_out
    if settings.follow_containers:
        return coverage_of(run.first, run.last, None, bus=run.lost, left_out=command + containers, fault=run.fault)
    return coverage_of(run.first, run.last, run.followed.cgroups, bus=run.lost, left_out=command, fault=run.fault)


def _rights_of(settings: Settings, launcher: Launcher, followed: Followed, *, is_root: bool) -> list[str]:
    """Return what the rights of the command mean for --enforce; name a program that lacked rights on stderr, too."""
    notes = [*([_IS_ROOT] if is_root else []), *([] if has_domains() else [_NO_DOMAIN])]
    program = first_privileged(followed.executed, {_MOUNTS.stat().st_ino, launcher.mounts})
    if program and settings.allow_new_privileges:
        notes.append(_STRENGTHENED.format(program))
    elif program:
        notes.append(_WEAKENED.format(program))
        _say(f"dnstrail: {escape_unprintable(notes[-1])}\n")
    return notes


def _has_ended(launcher: Launcher, followed: Followed, last: Turn | None = None) -> bool:
    known = launcher.pid
    launcher.take()
    if not known and launcher.pid:
        followed.begin(launcher.pid)
    followed.end_turn(last)
    return launcher.done


def _catch_up(watch: Joined | Pipeline, launcher: Launcher, followed: Followed, clock: Clock) -> bool:
    """Take the events up to the end of the command; return whether this end was seen."""
    ended = clock.monotonic()
    turns: set[int] = set()

    def caught_up() -> bool:
        followed.end_turn(watch.view.last)
        watch.view.ask_for_turn()
        if launcher.pid in followed.ended and watch.view.last is not None:
            turns.add(watch.view.last.turn)
        late = clock.monotonic() - ended
        return late > _CATCHING_UP or (len(turns) > _TURNS and (late > _CLOSING or not followed.is_closing))

    watch.work(threading.Event(), caught_up)
    followed.apply()
    return launcher.pid in followed.ended


def _wait_alone(launcher: Launcher, clock: Clock) -> float:
    """Wait for the end of the command without a pipeline; return the time of this end."""
    while not launcher.done:
        launcher.wait()
    return clock.monotonic()


def _decide(report: RunReport, settings: Settings, files: _Files) -> int:
    """Judge and write a report; return the exit code."""
    part = judged_part(report)
    report = msgspec.structs.replace(
        report,
        not_allowed=[] if files.allowed is None else not_allowed(part, files.allowed),
        failed=failures(part, settings.fail_on),
        files=files.writer.changes(),
    )
    return _exit_code(report, settings, written=_write(report, settings, files))


def _write(report: RunReport, settings: Settings, files: _Files) -> bool:
    """Write the files and the table; return whether all files were written. Each that was not is named on stderr."""
    texts = [form(report) for form in files.forms]
    if settings.learn is not None:
        part = judged_part(report)
        today = datetime.fromtimestamp(report.started, UTC).date().isoformat()
        found = learned(part, domains=settings.learn_domains)
        lines = merged(files.learning.text, files.learning.allowed, found, part, today)
        texts.append("".join(f"{line}\n" for line in lines))
    if settings.refusals is not None and files.refusals.descriptor is None:
        texts.append("".join(files.refusals.lines))
    faults = files.writer.write(texts)
    if not settings.quiet:
        _say(_table_of(report))
    for sentence in (*report.files, *faults):
        _say(f"dnstrail: {escape_unprintable(sentence)}\n")
    return not faults


def _silent(_text: str) -> None:
    """Show nothing."""


def _say(text: str) -> None:
    """Write to stderr, if anybody reads it: the verdict is the exit code. The command can make stderr non-blocking."""
    rest = memoryview(text.encode(sys.stderr.encoding, errors="backslashreplace"))
    with full_stderr_ignored():
        while rest:
            select.select([], [sys.stderr], [])
            with suppress(BlockingIOError):  # the command took the room
                rest = rest[os.write(sys.stderr.fileno(), rest) :]


def _exit_code(report: RunReport, settings: Settings, *, written: bool) -> int:
    """Return the exit code of the command, unless the report objects, or must object and is not complete.

    A file that was not written makes it another one than 0.
    """
    if objects(report):
        return OBJECTION
    if (settings.allow is not None or settings.fail_on) and not report.coverage.complete:
        _say("dnstrail: the capture is incomplete: nobody can tell that nothing else was reached\n")
        return CANNOT_SERVE
    return report.exit_code if written else report.exit_code or CANNOT_SERVE
