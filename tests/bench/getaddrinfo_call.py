"""The cost of a call of getaddrinfo with and without uprobes. It resolves an address, so that no query is sent."""

from __future__ import annotations

import ctypes
import time
from collections import Counter
from collections.abc import Iterator

from figures import Figure

from dnstrail.errors import SourceUnavailable
from dnstrail_probe.ebpf.getaddrinfo.library_thread import LibraryThread
from dnstrail_probe.ebpf.loader import Programs
from dnstrail_probe.ebpf.source import EbpfSource

COUNT = 1500  # calls a second; past 2,000 some are only counted, and cost less
RUNS = 5


def measure(_capture: str) -> Iterator[Figure]:
    """Measure a call without uprobes, and then with them."""
    try:
        programs = Programs(frozenset({53}), getaddrinfo=True)
    except SourceUnavailable as error:
        yield Figure(f"not measured: {error}", None)
        return
    try:
        alone = _median()
        libraries = LibraryThread(programs.watch_getaddrinfo, Counter(), EbpfSource.capabilities)
        probed = _median()
        libraries.close()
    finally:
        programs.close()
    yield Figure("a call with uprobes", probed, "us")
    yield Figure("a call with uprobes, against one without", probed / alone, "times")


def _median() -> float:
    return sorted(_calls() for _ in range(RUNS))[RUNS // 2]


def _calls() -> float:
    libc, found = ctypes.CDLL(None), ctypes.c_void_p()
    time.sleep(1)
    began = time.perf_counter()
    for _ in range(COUNT):
        libc.getaddrinfo(b"192.0.2.1", None, None, ctypes.byref(found))
        libc.freeaddrinfo(found)
    return (time.perf_counter() - began) / COUNT * 1e6
