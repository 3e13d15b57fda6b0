"""One run of a command: launcher, pipeline, collector, report, exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from io import StringIO
from pathlib import Path
from types import FrameType

import msgspec
from rich.console import Console

from dnstrail.bus import ZmqBus
from dnstrail.bus.ipc import default_run_dir
from dnstrail.capture_options import options_of
from dnstrail.errors import DnstrailError, SettingsError
from dnstrail.kernel.cgroups import find_cgroup2, running_containers
from dnstrail.pipeline.pipeline import Plan, run_folder, running
from dnstrail.process.clock import Clock, SystemClock
from dnstrail.process.command import CANNOT_SERVE, full_stderr_ignored
from dnstrail.process.log import configure
from dnstrail.process.privileges import may_change_user
from dnstrail.process.terminal import escape_unprintable
from dnstrail.protocol.batches import Turn
from dnstrail.users import User, caller_of_sudo, service_user
from dnstrail_run.allow_list import AllowList, parse_allow_list
from dnstrail_run.cgroup import cgroups_below
from dnstrail_run.coverage import coverage_of
from dnstrail_run.domain import has_domains
from dnstrail_run.encrypted_dns import is_encrypted_dns
from dnstrail_run.enforce.refused import refusals, with_names, without_refused
from dnstrail_run.enforce.rules import rules_of
from dnstrail_run.files import FORMATS, format_of, read_list
from dnstrail_run.followed import TOPICS, Followed
from dnstrail_run.inherited_sockets import refuse_inherited_sockets
from dnstrail_run.launcher import OF_TERMINAL, PASSED, Enforce, Launcher, launch
from dnstrail_run.namespaces import namespaces_of
from dnstrail_run.output_file import OutputFile
from dnstrail_run.privileged_program import first_privileged
from dnstrail_run.report import Coverage, ReachedAddress, Refusal, Report
from dnstrail_run.settings import Settings
from dnstrail_run.table import show_report
from dnstrail_run.verdict import OBJECTION, failures, is_unnamed, judged_part, learned, not_allowed, objects
from dnstrail_run.watch import Watch, joined, serves_live
from dnstrail_run.writer import Writer

_CATCHING_UP = 15.0  #: seconds for the events up to the end of the command -> the capture is incomplete
_TURNS = 2  # after the event of that end
#: seconds to wait for the ends of connections after the end of a command -> their bytes are unknown
_CLOSING = 1.0  # a peer acknowledges each
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
_TERMINAL = Path("/dev/tty")
_MOUNTS = Path("/proc/self/ns/mnt")


class _Files(msgspec.Struct, frozen=True):
    """The files of a run, read and opened before it begins."""

    allowed: AllowList | None
    forms: list[Callable[[Report], str]]
    writer: Writer


def run_session(settings: Settings) -> int:
    """Run the command, write its reports, and return the exit code.

    Raises:
        DnstrailError: the command was not started.
    """
    configure("dnstrail", "warning")
    clock = SystemClock()
    user = caller_of_sudo() if os.geteuid() == 0 else None
    with _open_files(settings, user) as files:
        _load_forms()
        find_cgroup2()  # a mount of its own is one of the launcher, too
        launcher = launch(
            settings.command, user, wait_for_all=settings.wait_for_all, enforce=_rules(settings, files.allowed)
        )
        _pass_on_signals(launcher)
        try:
            launcher.wait_for_cgroup()
            report = _watched(settings, launcher, clock, is_root=user is None and os.geteuid() == 0)
        finally:
            launcher.close()
        report = _judged(report, settings, files.allowed)
        report = msgspec.structs.replace(report, files=files.writer.changes())
        written = _write(report, settings, files)
    return _exit_code(report, settings, written=written)


def _rules(settings: Settings, allowed: AllowList | None) -> Enforce | None:
    if settings.learn_domains and settings.learn is None:
        raise SettingsError("--allow-learn-domains needs --allow-learn")
    if not settings.enforce:
        return None
    if allowed is None:
        raise SettingsError("--enforce needs --allow")
    refuse_inherited_sockets()
    namespaces = namespaces_of(allowed.resolvers)
    return Enforce(
        rules_of(allowed), namespaces, settings.allow_afterwards, settings.allow_new_privileges, allowed.sockets
    )


@contextmanager
def _open_files(settings: Settings, user: User | None) -> Iterator[_Files]:
    """Read the list, and open the files that are written at the end: the reports, and the list to learn."""
    forms = [format_of(path) for path in settings.reports]
    allowed = None if settings.allow is None else parse_allow_list(read_list(settings.allow, user))
    named = [("--report", path) for path in settings.reports]
    named += [] if settings.learn is None else [("--allow-learn", settings.learn)]
    files: list[OutputFile] = []
    try:
        for option, path in named:
            files.append(OutputFile(option, path, user))
    except SettingsError:
        for file in files:
            file.discard()
        raise
    writer = Writer(files)
    try:
        yield _Files(allowed, forms, writer)
    finally:
        writer.close()


def _load_forms() -> None:
    """Make an empty report in each form: it loads what another user may be unable to read."""
    nothing = _report_of(["\x1b\u3042"], 0, Followed(0, frozenset()), [], Coverage(True, [], ""))
    for form in FORMATS.values():
        form(nothing)
    show_report(nothing, Console(file=StringIO(), markup=False, highlight=False, emoji=False))


def _pass_on_signals(launcher: Launcher) -> None:
    """Pass signals on to the command, but not those that a terminal sends to the command itself while it runs."""

    def forward(number: int, _frame: FrameType | None) -> None:
        if number not in OF_TERMINAL or not launcher.is_running or not _is_in_foreground():
            launcher.order(bytes([number]))

    for number in (*PASSED, *OF_TERMINAL):
        signal.signal(number, forward)


def _is_in_foreground() -> bool:
    """Return whether a terminal sends its signals to the process group of this process and of the command."""
    try:
        with _TERMINAL.open("rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _watched(settings: Settings, launcher: Launcher, clock: Clock, *, is_root: bool) -> Report:
    """Run the command under a pipeline; return what it reached."""
    own, *others = namespaces_of({})
    named = {one.cookie: frozenset(one.resolvers) for one in others}
    below = partial(cgroups_below, Path(launcher.path))
    followed = Followed(launcher.cgroup, frozenset(own.resolvers), below, named)
    fault, lost, refused = "", 0, list[Refusal]()
    with ExitStack() as stack:
        watch = stack.enter_context(_watch(settings, followed, clock))
        never = threading.Event()
        watch.work(never, lambda: _is_heard(watch) or _has_ended(launcher, followed))
        first, lost = watch.view.last, watch.view.lost
        started, began = clock.wall(), clock.monotonic()
        followed.containers.begin(running_containers(find_cgroup2() or ""), started)
        launcher.go()
        try:
            watch.work(never, lambda: _has_ended(launcher, followed, watch.view.last))
            seconds = clock.monotonic() - began
            if launcher.pid and not _catch_up(watch, launcher, followed, clock):
                fault = "The end of the command was not seen: the probe captures no processes, or is behind."
            followed.complete_names(watch.view.names_of)
            refused = refusals(launcher.outcome.attempts, followed.command.connections)
            refused = with_names(refused, watch.view.names_of, (one.name for one in followed.command.names))
        except DnstrailError as error:
            fault = f"The capture failed: {error}"
            seconds = _wait_alone(launcher, clock) - began
            followed.apply()
            refused = refusals(launcher.outcome.attempts, followed.command.connections)
        last, lost = watch.view.last, watch.view.lost - lost
    everything = settings.follow_containers
    left_out = followed.command.left_out + followed.containers.left_out * everything
    cgroups = None if everything else followed.cgroups
    coverage = coverage_of(first, last, cgroups, bus=lost, left_out=left_out, fault=fault)
    connections = without_refused(launcher.outcome.attempts, followed.command.connections)
    code = CANNOT_SERVE if launcher.code is None else launcher.code
    report = _report_of(settings.command, code, followed, connections, coverage)
    return msgspec.structs.replace(
        report,
        started=started,
        seconds=seconds,
        left=launcher.left,
        left_names=launcher.left_names,
        refused=refused,
        conflicts=launcher.outcome.conflicts,
        enforcement=[*launcher.outcome.limits.notes, *([_LEFT] if settings.enforce and followed.has_left else [])],
        rights=_rights_of(settings, launcher, followed, is_root=is_root) if settings.enforce else [],
        hidden=launcher.hidden,
        followed=everything,
    )


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


def _report_of(
    command: Sequence[str], code: int, followed: Followed, connections: list[ReachedAddress], coverage: Coverage
) -> Report:
    return Report(
        command=[os.fsencode(argument).decode(errors="backslashreplace") for argument in command],
        exit_code=code,
        names=followed.command.names,
        connections=connections,
        unnamed=[one for one in connections if is_unnamed(one)],
        encrypted=[one for one in connections if is_encrypted_dns(one)],
        foreign_dns=followed.command.foreign_dns,
        coverage=coverage,
        containers=followed.containers.reports(),
        containers_left_out=followed.containers.left_out,
    )


@contextmanager
def _watch(settings: Settings, followed: Followed, clock: Clock) -> Iterator[Watch]:
    """Use the pipeline that runs in the run-dir, else start one."""
    given = settings.run_dir or default_run_dir()
    bus = ZmqBus()
    try:
        if serves_live(given):
            with joined(given, TOPICS, bus, followed.take, clock) as watch:
                yield watch
            return
        user = service_user() if may_change_user() else None
        with run_folder(settings.run_dir, user) as folder:
            capture = "ebpf:getaddrinfo" if settings.getaddrinfo else "ebpf"
            plan = Plan(folder, capture, events=TOPICS, options=options_of(settings.options), user=user)
            with running(plan, bus, followed.take, clock) as pipeline:
                yield pipeline
    finally:
        bus.close()


def _is_heard(watch: Watch) -> bool:
    if watch.view.last is None:
        watch.view.ask_for_turn()
    return watch.view.last is not None


def _has_ended(launcher: Launcher, followed: Followed, last: Turn | None = None) -> bool:
    known = launcher.pid
    launcher.take()
    if not known and launcher.pid:
        followed.begin(launcher.pid)
    followed.end_turn(last)
    return launcher.done


def _catch_up(watch: Watch, launcher: Launcher, followed: Followed, clock: Clock) -> bool:
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


def _judged(report: Report, settings: Settings, allowed: AllowList | None) -> Report:
    part = judged_part(report)
    return msgspec.structs.replace(
        report,
        not_allowed=[] if allowed is None else not_allowed(part, allowed),
        failed=failures(part, settings.fail_on),
    )


def _write(report: Report, settings: Settings, files: _Files) -> bool:
    """Write the files and the table; return whether all files were written. Each that was not is named on stderr."""
    texts = [form(report) for form in files.forms]
    if settings.learn is not None:
        lines = learned(judged_part(report), domains=settings.learn_domains)
        texts.append("".join(f"{line}\n" for line in lines))
    faults = files.writer.write(texts)
    if not settings.quiet:
        table = StringIO()
        terminal = sys.stderr.isatty() or None  # None: also what the environment forces
        show_report(report, Console(file=table, force_terminal=terminal, markup=False, highlight=False, emoji=False))
        _say(table.getvalue())
    for sentence in (*report.files, *faults):
        _say(f"dnstrail: {escape_unprintable(sentence)}\n")
    return not faults


def _say(text: str) -> None:
    """Write to stderr, if anybody reads it: the verdict is the exit code."""
    with full_stderr_ignored():
        sys.stderr.write(text)
        sys.stderr.flush()


def _exit_code(report: Report, settings: Settings, *, written: bool) -> int:
    """Return the exit code of the command, unless the report objects, or must object and is not complete.

    A file that was not written makes it another one than 0.
    """
    if objects(report):
        return OBJECTION
    if settings.judges and not report.coverage.complete:
        _say("dnstrail: the capture is incomplete: nobody can tell that nothing else was reached\n")
        return CANNOT_SERVE
    return report.exit_code if written else report.exit_code or CANNOT_SERVE
