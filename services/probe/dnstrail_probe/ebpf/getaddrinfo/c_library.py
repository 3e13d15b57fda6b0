"""Where the C library of a process may be: beside the interpreter that its program names, or where it is usually."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial

from dnstrail_probe.ebpf.getaddrinfo.elf import interpreter
from dnstrail_probe.ebpf.getaddrinfo.process_root import Identity, identity, open_below

_LIBRARY = "libc.so.6"
# Where else Debian's interpreter looks, whose own name is a link from elsewhere.
_DEBIAN = [f"{folder}/{platform.machine()}-linux-gnu/{_LIBRARY}" for folder in ("/lib", "/usr/lib")]
_OTHERS = [f"{folder}/{_LIBRARY}" for folder in ("/lib64", "/usr/lib64", "/lib", "/usr/lib")]
_MUSL = f"/lib/ld-musl-{platform.machine()}.so.1"


def c_libraries(pid: int, root: int) -> Iterator[int]:
    """Descriptors of the files, each once, open until the next is asked for; none of a program without an interpreter.

    `root` is the root directory of the process. Raises OSError: it has ended, or is not ours to see.
    """
    program = os.open(f"/proc/{pid}/exe", os.O_RDONLY | os.O_CLOEXEC)
    try:
        loader = interpreter(partial(os.pread, program))
    finally:
        os.close(program)
    if loader is not None:
        yield from _files(root, (loader, f"{loader.rpartition('/')[0]}/{_LIBRARY}", *_DEBIAN))


def usual_libraries(root: int) -> Iterator[int]:
    """Descriptors of the C libraries below a root that are in usual places, likewise."""
    return _files(root, (*_DEBIAN, *_OTHERS, _MUSL))


def _files(root: int, paths: Iterable[str]) -> Iterator[int]:
    seen: set[Identity] = set()
    for path in paths:
        with suppress(OSError), open_below(root, path) as file:
            which = identity(os.fstat(file))
            if which not in seen:
                seen.add(which)
                yield file
