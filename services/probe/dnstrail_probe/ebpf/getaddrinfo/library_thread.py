"""The thread in which C libraries are found and watched, and the messages that it takes."""

from __future__ import annotations

import queue
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec

from dnstrail.kernel.capabilities import keep_capabilities
from dnstrail_probe.ebpf.getaddrinfo.library_finder import LibraryFinder
from dnstrail_probe.ebpf.getaddrinfo.uprobes import MOST_FILES, UprobeTable, Watch
from dnstrail_probe.host.procfs import process_ids

COUNTERS = ("libraries_watched", "libraries_refused", "libraries_dropped", "starts_dropped")
#: started programs that wait for inspection -> the probe inspects all processes: `starts_dropped`
_MOST_WAITING = 4096
_DESCRIPTORS = 1024  # for everything except libraries
_PATIENCE = 5.0  # seconds to wait for the first examination of all processes
_FAREWELL = 2.0  # seconds to wait for the end; the kernel detaches with the process what the thread did not


class Started(msgspec.Struct, frozen=True):
    """A process executed a program."""

    pid: int


class ContainerStarting(msgspec.Struct, frozen=True):
    """A container will start in a cgroup, given by its folder."""

    cgroup: str


class Stop(msgspec.Struct, frozen=True):
    """The thread is to end."""


Message = Started | ContainerStarting | Stop


class LibraryThread:
    """Runs a `LibraryFinder` in a thread of its own, so that a file that hangs holds up nothing else.

    Its constructor waits (5 s at most) until the libraries in use are watched. The queue of messages is bounded: a
    message beyond the bound is counted in `starts_dropped`, and the next sweep examines all processes. The thread keeps
    only `capabilities`.
    """

    def __init__(
        self,
        watch: Watch,
        counters: Counter[str],
        capabilities: tuple[str, ...],
        *,
        clock: Callable[[], float] = time.monotonic,
        processes: Callable[[], Iterable[int]] = process_ids,
    ) -> None:
        _raise_descriptor_limit()
        self._counters = counters
        counters.update(dict.fromkeys(COUNTERS, 0))  # the thread must add no key while another one iterates
        self._capabilities = capabilities
        self._clock = clock
        self._closed, self._dropped, self._ready = threading.Event(), threading.Event(), threading.Event()
        self._files = UprobeTable(watch, counters, self._closed)
        self._finder = LibraryFinder(self._files, counters, processes)
        self._messages: queue.Queue[Message] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name="C libraries", daemon=True)
        self._thread.start()
        self._ready.wait(_PATIENCE)

    def process_started(self, pid: int) -> None:
        """Watch the library of a process that executed a program."""
        self._put(Started(pid))

    def container_starting(self, cgroup: str) -> None:
        """Watch the library of a container that starts in a cgroup, given by its folder."""
        self._put(ContainerStarting(cgroup))

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        with suppress(queue.Full):  # then the thread wakes anyway
            self._messages.put_nowait(Stop())
        self._thread.join(_FAREWELL)

    def _put(self, message: Message) -> None:
        try:
            self._messages.put_nowait(message)
        except queue.Full:
            self._counters["starts_dropped"] += 1
            self._dropped.set()

    def _work(self) -> None:
        keep_capabilities(*self._capabilities)
        self._finder.examine_all(self._clock())
        self._ready.set()
        while not self._closed.is_set():
            with suppress(queue.Empty):
                self._take(self._messages.get(timeout=self._finder.wait))
            if self._dropped.is_set():
                self._dropped.clear()
                self._finder.examine_all_later()
            self._finder.advance(self._clock())
        self._files.close()

    def _take(self, message: Message) -> None:
        match message:
            case Started(pid):
                self._finder.examine(pid, self._clock())
            case ContainerStarting(cgroup):
                self._finder.expect_container(cgroup, self._clock())
            case Stop():
                pass  # `_closed` is set


def _raise_descriptor_limit() -> None:
    """Raise this process's limit of open descriptors, as far as allowed: each library needs three."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = max(soft, 3 * MOST_FILES + _DESCRIPTORS)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
