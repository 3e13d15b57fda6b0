"""Tries the uprobes on a process of our own first: on some kernels a process under seccomp does not survive them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from dnstrail.errors import SourceUnavailable
from dnstrail_probe.ebpf.getaddrinfo.elf import c_libraries, function_offset
from dnstrail_probe.ebpf.getaddrinfo.uprobes import FUNCTION, SOURCE
from dnstrail_probe.ebpf.loader import UPROBES
from dnstrail_probe.host.process_root import open_root

CALLER = (sys.executable, "-P", "-m", "dnstrail_probe.ebpf.getaddrinfo.seccomp_child")
_PATIENCE = 10.0  # seconds
_KILLS = "on this kernel a process under seccomp does not survive it"

Watch = Callable[[int, int, int], tuple[int, ...]]


def try_watching(watch: Watch, caller: tuple[str, ...] = CALLER) -> None:
    """Attach the uprobes, by `watch(file, offset, pid)`, to a process under seccomp that calls getaddrinfo.

    Since Linux 6.11 a probed function returns through a system call of its own. Seccomp filters refuse it, which ends
    the process. Since Linux 6.14 seccomp lets this system call pass.

    Raises:
        SourceUnavailable: the kernel refused the uprobes, or the process did not survive; the error names the remedy.
    """
    try:
        returned = _call_watched(watch, caller)
    except OSError as error:
        raise SourceUnavailable(SOURCE, f"the kernel refused to watch {FUNCTION} ({error})", UPROBES) from error
    if returned:
        raise SourceUnavailable(SOURCE, _KILLS, UPROBES)


def _call_watched(watch: Watch, caller: tuple[str, ...]) -> int:
    """Let a process call getaddrinfo while it is watched; return its exit code."""
    with subprocess.Popen(caller, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # noqa: S603 - our own
        try:
            _await_line(child)
            with _watched(watch, child.pid):
                child.communicate(b"\n", _PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            child.kill()
    return child.returncode


def _await_line(child: subprocess.Popen[bytes]) -> None:
    if child.stdout is not None:
        child.stdout.readline()


@contextmanager
def _watched(watch: Watch, pid: int) -> Iterator[None]:
    watches: list[int] = []
    try:
        with open_root(pid) as root:
            for file in c_libraries(pid, root):
                offset = function_offset(partial(os.pread, file), FUNCTION)
                if offset is not None:
                    watches += watch(file, offset, pid)
        if not watches:
            raise SourceUnavailable(SOURCE, f"{sys.executable} has no C library on which to try the uprobes")
        yield
    finally:
        for descriptor in watches:
            os.close(descriptor)
