"""The launcher: a process that keeps root, and runs the command in a cgroup of its own as the calling user.

It is forked before anything else starts. Its process starts the command when it receives `GO`, passes on the signals
that it receives, reports the end of the command, and removes the cgroup. It outlives nothing but the command.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec

from dnstrail.errors import SourceUnavailable
from dnstrail.users import User
from dnstrail_run.asking import NO, ONCE, Approval, Questioner
from dnstrail_run.cgroup import CommandCgroup, continue_by, make_cgroup, names_of
from dnstrail_run.command_process import exec_command, has_domains, ignored_signals
from dnstrail_run.enforce.hooks import Enforcement
from dnstrail_run.enforce.refusals import Ancestor, Attempt, First, Outcome
from dnstrail_run.enforce.routes import Routes
from dnstrail_run.enforce.rules import Rules
from dnstrail_run.enforce.services import hide_services
from dnstrail_run.namespaces import NetworkNamespace

GO = b"\0"
_TERMINAL = Path("/dev/tty")
_MOUNTS = Path("/proc/self/ns/mnt")
_KILLED = 128  #: exit: and more: a signal ended the command of `dnstrail run`; the signal is added
#: parents of a process that the line of a refusal names -> further ones are left out
MOST_PARENTS = 16
_LOOKS = 0.05  # seconds between two looks at a cgroup that empties
PASSED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # signals for the command
OF_TERMINAL = (signal.SIGINT, signal.SIGQUIT)  # which it sends to all processes in its foreground
_OF_BACKGROUND = (signal.SIGTTIN, signal.SIGTTOU)  # which it sends to who uses it in the background
_SENT = 0x80  # a bit beside the number of a signal: a terminal has sent it to the command, too, if that was running


class Enforce(NamedTuple):
    """The rules for a command, what holds for its processes after the end of dnstrail, and for set-id programs.

    `namespaces` have the resolvers, the first is that of this process. `sockets` are the paths of the Unix sockets of
    services that it may use. `any_question` allows questions about names that are not in the list, and `questioner`
    asks a person about them. With `check_server_name`, a connection to the address of a name must state this name.
    """

    rules: Rules
    namespaces: Sequence[NetworkNamespace]
    allow_afterwards: bool
    allow_new_privileges: bool
    sockets: list[str]
    any_question: bool
    check_server_name: bool
    questioner: Questioner | None = None


class Launcher:
    """The handle of the launcher in the process that started it.

    `cgroup` is the id of the cgroup, and `path` its folder. `pid` is the process of the command, 0 before its start.
    `code` is its exit code as a shell reports it, None until it has ended. `left` counts the processes that outlived
    it, and `left_names` names some. `done` states that nothing more is to come. `outcome` is that of the enforcement.
    `hidden` are the sockets of services that the command does not find, and `mounts` is its mount namespace (inode).
    `approved` is what a person allowed meanwhile.
    """

    def __init__(self, process: int, orders: int, reports: int, *, freezes: bool = False) -> None:
        self._process = process
        self._orders = orders
        self._reports = reports
        self._buffer = b""
        self.cgroup = 0
        self.path = ""
        self.pid = 0
        self.code: int | None = None
        self.left = 0
        self.left_names: list[str] = []
        self.outcome = Outcome()
        self.hidden: list[str] = []
        self.mounts = 0
        self.approved: list[Approval] = []
        self._freezes, self._freezer = freezes, -1
        self.done = False
        self.on_first: Callable[[First], object] = id  # gets each first refusal

    def wait_for_cgroup(self) -> None:
        """Wait until the cgroup was made.

        Raises:
            SourceUnavailable: it cannot be made; the text names the remedy.
        """
        while not self.cgroup and not self.done:
            self.wait()
        if self.path and self._freezes:
            self._freezer = CommandCgroup(Path(self.path)).open_freezer()

    def go(self) -> None:
        """Start the command."""
        self.order(GO)

    def order(self, order: bytes) -> None:
        """Send `GO`, or a signal as one byte.

        The command receives the signal, unless it is `_SENT`. Before its start and after its end, the signal ends the
        launcher instead. The launcher alone knows which it is.
        """
        if self._orders >= 0:
            with suppress(BrokenPipeError):  # the launcher has ended
                os.write(self._orders, order)

    def take(self) -> None:
        """Take the reports that have arrived."""
        while not self.done and select.select([self._reports], [], [], 0)[0]:
            self.wait()

    def close(self) -> None:
        """Wait for the end of the launcher; without `GO` it ends without the command."""
        orders, self._orders = self._orders, -1
        os.close(orders)
        os.close(self._reports)
        self._let_continue()
        os.waitpid(self._process, 0)

    def wait(self) -> None:
        """Wait for a report, and take it."""
        data = os.read(self._reports, 4096)
        self.done = not data
        if self.done:
            self._let_continue()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._note(json.loads(line))

    def _let_continue(self) -> None:
        """Let the command continue: its launcher may have been killed while it asked."""
        if self._freezer >= 0:
            continue_by(self._freezer)
            self._freezer = -1

    def _note(self, report: dict[str, Any]) -> None:
        if "error" in report:
            raise SourceUnavailable(*report["error"])
        if "outcome" in report:
            report["outcome"] = msgspec.convert(report["outcome"], Outcome)
        if "first" in report:
            self.on_first(msgspec.convert(report.pop("first"), First))
        if "approval" in report:
            self.approved.append(msgspec.convert(report.pop("approval"), Approval))
        for name, value in report.items():
            setattr(self, name, value)


def pass_on_signals(launcher: Launcher) -> None:
    """Pass signals on to the command, but not those that a terminal sends to the command itself while it runs."""

    def forward(number: int, _frame: FrameType | None) -> None:
        sent = _SENT if number in OF_TERMINAL and _is_in_foreground() else 0
        launcher.order(bytes([number | sent]))

    for number in (*PASSED, *OF_TERMINAL):
        signal.signal(number, forward)


def _is_in_foreground() -> bool:
    """Return whether a terminal sends its signals to the process group of this process and of the command."""
    try:
        with _TERMINAL.open("rb", buffering=0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def launch(
    command: Sequence[str], user: User | None, *, wait_for_all: bool, enforce: Enforce | None = None
) -> Launcher:
    """Fork the launcher of a command. No other thread may run yet."""
    ordered, orders = os.pipe()
    reports, reported = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(orders)
            os.close(reports)
            code = _Launched(command, user, ordered, reported, wait_for_all, enforce).run()
        except BaseException:  # noqa: BLE001 - nothing of this process may go on as its parent
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(ordered)
    os.close(reported)
    return Launcher(process, orders, reports, freezes=enforce is not None and enforce.questioner is not None)


@dataclass
class _Launched:
    """The launcher itself, in its own process."""

    command: Sequence[str]
    user: User | None
    orders: int
    reports: int
    wait_for_all: bool
    enforce: Enforce | None
    enforcement: Enforcement | None = None
    cgroup: CommandCgroup | None = None
    routes: list[Routes] = field(default_factory=list)

    def run(self) -> int:
        """Do the whole work; return an exit code."""
        ignored = ignored_signals()
        for number in (*PASSED, *OF_TERMINAL, *_OF_BACKGROUND):  # they are not for the launcher
            signal.signal(number, signal.SIG_IGN)
        cgroup = None
        try:
            cgroup = make_cgroup(guarded=self.enforce is not None)
            self.cgroup = cgroup
            self._hook(cgroup)
            self._report(cgroup=cgroup.id, path=str(cgroup.path))
            order = os.read(self.orders, 1)
            if order == GO:
                self._run_command(cgroup, ignored)
            elif order:
                self._report(code=_KILLED + (order[0] & ~_SENT))
        except SourceUnavailable as error:
            self._report(error=[error.source, error.reason, error.remedy])
            return 1
        finally:
            if cgroup is not None:
                self._leave(cgroup)
        return 0

    def _hook(self, cgroup: CommandCgroup) -> None:
        if self.enforce is not None:
            rules, afterwards = self.enforce.rules, self.enforce.allow_afterwards
            user, any_question = self.user.uid if self.user else os.geteuid(), self.enforce.any_question
            hidden = hide_services(user, self.enforce.sockets, any_question=any_question)
            self._report(hidden=hidden, mounts=_MOUNTS.stat().st_ino)
            namespaces = self.enforce.namespaces
            self.enforcement = Enforcement(
                cgroup.path,
                rules,
                namespaces,
                allow_afterwards=afterwards,
                any_question=any_question,
                ask=self.enforce.questioner is not None,
                check_server_name=self.enforce.check_server_name,
            )
            guide = self.enforcement.guide
            self.routes = [Routes(cgroup, self.user, namespaces[0], guide)]
            for named in namespaces[1:]:
                with suppress(SourceUnavailable):  # removed meanwhile
                    self.routes.append(Routes(cgroup, self.user, named, guide))

    def _leave(self, cgroup: CommandCgroup) -> None:
        """Remove the cgroup. With rules, the processes that are left stay in it."""
        if self.enforcement is None:
            cgroup.release()
        else:
            self.enforcement.end()
            self._report_firsts()
            outcome = Outcome(self.enforcement.attempts(), self.enforcement.conflicts(), self.enforcement.limits())
            self._report(outcome=msgspec.to_builtins(outcome))
            self.enforcement.close()
        for routes in self.routes:
            routes.close()
        cgroup.remove()

    def _run_command(self, cgroup: CommandCgroup, ignored: set[signal.Signals]) -> None:
        blocked = signal.pthread_sigmask(
            signal.SIG_BLOCK, (*PASSED, *OF_TERMINAL)
        )  # until the command can receive them
        pid = os.fork()
        if pid == 0:
            privileges = self.enforce is None or self.enforce.allow_new_privileges
            domain = self.enforce is not None and has_domains()
            exec_command(self.command, self.user, cgroup, ignored, blocked, domain=domain, new_privileges=privileges)
        self._report(pid=pid)
        self._report(code=self._wait(pid))
        while self.wait_for_all and cgroup.processes() and self.orders not in self._select([self.orders], _LOOKS):
            pass
        processes = cgroup.processes()
        self._report(left=len(processes), left_names=names_of(processes))

    def _wait(self, pid: int) -> int:
        """Pass signals on until the command has ended; return its exit code, 128 and more for a signal."""
        end = os.pidfd_open(pid)
        listening = [end, self.orders]
        while end not in (ready := self._select(listening)):
            if self.orders in ready and not self._pass_on(pid):
                listening = [end]  # nobody is left to order anything
                if self.enforcement is not None:
                    self.enforcement.end()
        os.close(end)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return status if status >= 0 else _KILLED - status

    def _select(self, listening: list[int], seconds: float | None = None) -> list[int]:
        """Return the descriptors that are readable, as select does; meanwhile follow the routes to the resolvers."""
        changes = {routes.fileno(): routes for routes in self.routes}
        firsts = [] if self.enforcement is None else self.enforcement.refusal_files
        ready = select.select([*listening, *changes, *firsts], [], [], seconds)[0]
        for changed in changes.keys() & ready:
            changes[changed].learn()
        self._report_firsts(listening)
        return ready

    def _report_firsts(self, interrupts: Sequence[int] = ()) -> None:
        for attempt in [] if self.enforcement is None else self.enforcement.firsts():
            self._report(first=msgspec.to_builtins(_first(attempt)))
        if self.enforcement is None or self.cgroup is None or not (waiting := self.enforcement.waiting()):
            return
        with self.cgroup.frozen() as stopped:
            while waiting:
                for question in waiting:
                    self._decide(self.enforcement, self.cgroup, question, interrupts if stopped else ())
                waiting = self.enforcement.waiting()

    def _decide(
        self, enforcement: Enforcement, cgroup: CommandCgroup, question: int, interrupts: Sequence[int]
    ) -> None:
        """Let the person decide about a question; without `interrupts`, which end that, it is refused."""
        first = _first(enforcement.question(question))
        questioner = self.enforce.questioner if self.enforce and interrupts else None
        if questioner is not None:
            approval = questioner.decide(first, interrupts, _groups_of(cgroup.processes()))
            if approval.verdict != NO:
                with suppress(OSError):  # no room: refused
                    enforcement.allow(question, once=approval.verdict == ONCE)
                    self._report(approval=msgspec.to_builtins(approval))
                    return
        enforcement.refuse(question)
        self._report(first=msgspec.to_builtins(first))

    def _pass_on(self, pid: int) -> bool:
        """Pass on the signals that have arrived; return False if the other end was closed."""
        orders = os.read(self.orders, 64)
        for order in orders:
            if not order & _SENT:
                os.kill(pid, order)
        return bool(orders)

    def _report(self, **fields: object) -> None:
        with suppress(BrokenPipeError):  # the other end has ended; the command goes on
            os.write(self.reports, json.dumps(fields).encode() + b"\n")


def _first(attempt: Attempt) -> First:
    return First(attempt, time.time(), _parents_of(attempt.pid))


def _groups_of(processes: Sequence[int]) -> set[int]:
    found = set()
    for pid in processes:
        with suppress(OSError):  # ended meanwhile
            found.add(os.getpgid(pid))
    return found


def _parents_of(pid: int) -> list[Ancestor]:
    """Return the parents of a process, the nearest first, up to this one; none if the process has ended."""
    found: list[Ancestor] = []
    own = os.getpid()
    with suppress(OSError, ValueError, IndexError):
        while len(found) < MOST_PARENTS:
            # The name is in parentheses, and may contain some itself (proc_pid_stat(5)).
            text = Path(f"/proc/{pid}/stat").read_text(errors="backslashreplace")
            parent = int(text.rpartition(")")[2].split()[1])
            if parent in (0, own):
                break
            name = Path(f"/proc/{parent}/comm").read_text(errors="backslashreplace").rstrip("\n")
            found.append(Ancestor(parent, name))
            pid = parent
    return found
