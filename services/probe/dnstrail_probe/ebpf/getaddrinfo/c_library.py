"""Finds the C library of a process: next to the interpreter that its program names, or in the usual places."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial

from dnstrail_probe.ebpf.getaddrinfo.elf import interpreter
from dnstrail_probe.host.process_root import Identity, identity, open_below

_LIBRARY = "libc.so.6"
# Debian's interpreter is reached through a link in another folder, so its library is searched for here as well.
_DEBIAN = [f"{folder}/{platform.machine()}-linux-gnu/{_LIBRARY}" for folder in ("/lib", "/usr/lib")]
_OTHERS = [f"{folder}/{_LIBRARY}" for folder in ("/lib64", "/usr/lib64", "/lib", "/usr/lib")]
_MUSL = f"/lib/ld-musl-{platform.machine()}.so.1"


def c_libraries(pid: int, root: int) -> Iterator[int]:
    """Yield descriptors of the files that can be the C library of a process, each file once.

    A descriptor is open until the next one is requested. A program without an interpreter has no library. `root` is
    the root directory of the process.

    Raises:
        OSError: the process has ended, or this user may not read it.
    """
    program = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        loader = interpreter(partial(os.pread, program))
    finally:
        os.close(program)
    if loader is not None:
        yield from _files(root, (loader, f"{loader.rpartition('/')[0]}/{_LIBRARY}", *_DEBIAN))


def usual_libraries(root: int) -> Iterator[int]:
    """Yield descriptors of the C libraries in the usual places below a root, in the same way."""
    return _files(root, (*_DEBIAN, *_OTHERS, _MUSL))


def _files(root: int, paths: Iterable[str]) -> Iterator[int]:
    seen: set[Identity] = set()
    for path in paths:
        with suppress(OSError), open_below(root, path) as file:
            which = identity(os.fstat(file))
            if which not in seen:
                seen.add(which)
                yield file
