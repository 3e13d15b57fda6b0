"""Stand-ins for uprobes on C libraries, and processes with libraries of their own: for tests of what is watched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from dnstrail_probe.ebpf.getaddrinfo.elf import c_libraries, function_offset
from dnstrail_probe.host.process_root import Identity, identity, open_root
from live.getaddrinfo_program import make_root


class Watches:
    """In place of uprobes: a descriptor for each file that is watched."""

    def __init__(self) -> None:
        self.places: dict[Identity, int] = {}
        self.open: dict[int, Identity] = {}
        self.watched: list[Identity] = []

    def __call__(self, file: int, offset: int) -> tuple[int, ...]:
        """Return a descriptor for an offset in a file, as the kernel does."""
        which = identity(os.fstat(file))
        self.places[which] = offset
        self.watched.append(which)
        end, other = os.pipe()
        os.close(other)
        self.open[end] = which
        return (end,)

    @property
    def now(self) -> set[Identity]:
        """The files whose descriptors are still open."""
        return {which for end, which in list(self.open.items()) if Path(f"/proc/self/fd/{end}").exists()}


def own_library() -> Identity:
    """Return the C library of this process; skip the test if it has none."""
    with open_root(os.getpid()) as root:
        for file in c_libraries(os.getpid(), root):
            if function_offset(partial(os.pread, file), "getaddrinfo") is not None:
                return identity(os.fstat(file))
    pytest.skip("this Python has no C library of its own")


@contextmanager
def other_root(folder: Path) -> Iterator[tuple[int, Path]]:
    """Run a process below another root, which holds a program and its libraries; yield pid and C library."""
    if os.geteuid() != 0:
        pytest.skip("only root can change roots")
    library = make_root(folder, Path("/bin/cat"))
    with subprocess.Popen(["chroot", folder, "/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            process.stdin.write(b"runs\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"runs\n"
            yield process.pid, library
        finally:
            process.kill()
