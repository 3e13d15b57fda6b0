"""The family of processes: how they begin and end."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from dnstrail.events.specification import EventSpecification, Field, Line

if TYPE_CHECKING:
    from dnstrail.events.event import Event

SCHED_PROCESS_EXEC: Final = "sched_process_exec"
SCHED_PROCESS_FORK: Final = "sched_process_fork"
SCHED_PROCESS_EXIT: Final = "sched_process_exit"
_EMITTER = "eBPF with BTF"


def _exec(event: Event) -> Line:
    return Line(f"exec {event.executable.path or event.process_name}", kind="process")


def _fork(event: Event) -> Line:
    child = event.arg("child_pid")
    return Line("fork" if child is None else f"fork {child}", kind="process")


def _exit(event: Event) -> Line:
    signal, code = event.arg("signal_code"), event.arg("exit_code")
    how = f" by signal {signal}" if signal else f" with code {code}" if code else ""
    return Line(f"exit{how}", kind="process")


_FORK = (
    Field("parent_tid", "int", "the thread that forks"),
    Field("parent_pid", "int", "its process"),
    Field("child_tid", "int", "the first thread of the new process"),
    Field("child_pid", "int", "the new process"),
)
_EXIT = (
    Field("exit_code", "long", "the code with which it ended; 0 if a signal ended it"),
    Field("signal_code", "int", "the signal that ended it; 0 without one"),
    Field("process_group_exit", "bool", "true: its last thread ended"),
)
_event = partial(EventSpecification, "processes")
PROCESSES: Final = (
    _event(SCHED_PROCESS_EXEC, 715, _EMITTER, "a program starts", (), "exec", _exec),
    _event(SCHED_PROCESS_FORK, 714, _EMITTER, "a process forks; the event belongs to the parent", _FORK, "fork", _fork),
    _event(SCHED_PROCESS_EXIT, 716, _EMITTER, "a process ends", _EXIT, "exit", _exit),
)
