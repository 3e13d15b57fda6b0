"""The uprobes are tried on a process under seccomp, and not used if it does not survive them.

Tests of dnstrail_probe.ebpf.getaddrinfo.seccomp_child.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dnstrail.errors import SourceUnavailable
from dnstrail_probe.ebpf.getaddrinfo import seccomp_trial as trial
from dnstrail_probe.ebpf.getaddrinfo.seccomp_trial import try_watching
from dnstrail_probe.ebpf.loader import UPROBES
from live.processes import text_of

DIES = "import os, signal, sys; print('ready', flush=True); input(); os.kill(os.getpid(), signal.SIGSEGV)"
HANGS = "import sys, time; print('ready', flush=True); input(); time.sleep(600)"


class Watch:
    """In place of uprobes: notes the processes that would get them."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.descriptor = -1

    def __call__(self, file: int, offset: int, pid: int) -> tuple[int, ...]:
        """Return a descriptor, as the kernel does."""
        assert offset > 0
        self.asked.append(pid)
        self.descriptor = os.dup(file)
        return (self.descriptor,)


def caller(code: str) -> tuple[str, ...]:
    """Return the command of another process in place of the one under seccomp."""
    return (sys.executable, "-c", code)


def test_a_process_that_survives():
    """Only one other process gets the uprobes, until the end of the trial."""
    watch = Watch()
    try_watching(watch)
    assert len(watch.asked) == 1
    assert watch.asked != [os.getpid()]
    assert not Path(f"/proc/self/fd/{watch.descriptor}").exists()


@pytest.mark.parametrize("code", [DIES, HANGS], ids=["dies", "hangs"])
def test_a_process_that_does_not_survive(monkeypatch, code):
    """If the process is killed or hangs, the error names the remedy, and no uprobe stays."""
    monkeypatch.setattr(trial, "_PATIENCE", 1.0)
    watch = Watch()
    with pytest.raises(SourceUnavailable, match="seccomp does not survive") as refused:
        try_watching(watch, caller(code))
    assert str(refused.value).endswith(UPROBES)
    assert not Path(f"/proc/self/fd/{watch.descriptor}").exists()


def test_a_process_that_cannot_be_started(tmp_path):
    """If the process cannot be started, the error names the reason."""
    with pytest.raises(SourceUnavailable, match="No such file"):
        try_watching(Watch(), (str(tmp_path / "none"),))


def test_nothing_is_imported_from_the_current_folder(tmp_path, monkeypatch):
    """A file in the current folder with the name of a Python module is not imported."""
    (tmp_path / "ctypes.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    try_watching(Watch())


def test_a_kernel_that_refuses():
    """If the kernel refuses the uprobes, the error names reason and remedy."""

    def refuse(_file: int, _offset: int, _pid: int) -> tuple[int, ...]:
        raise OSError(errno.EINVAL, "Invalid argument")

    with pytest.raises(SourceUnavailable, match=r"refused to watch getaddrinfo .*Invalid argument") as refused:
        try_watching(refuse)
    assert str(refused.value).endswith(UPROBES)


def test_the_process_is_filtered():
    """The process has its seccomp filter once it is ready."""
    with subprocess.Popen(trial.CALLER, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        assert "\nSeccomp:\t2\n" in text_of(Path(f"/proc/{process.pid}/status"))
        process.communicate(b"\n", 10)
    assert process.returncode == 0


def test_the_filter_refuses_only_its_system_calls():
    """The filter refuses exactly the system calls of the given numbers."""
    code = (
        "import ctypes; from dnstrail_probe.ebpf.getaddrinfo.seccomp_child import filter_system_calls\n"
        "filter_system_calls(1000, 1001)\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "for number in (999, 1000, 1001, 1002): libc.syscall(number); print(ctypes.get_errno())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [int(line) for line in done.stdout.split()] == [errno.ENOSYS, errno.EPERM, errno.EPERM, errno.ENOSYS]
