"""The thread in which the C libraries of all processes are found and watched."""

from __future__ import annotations

import os
import queue
import resource
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from dnstrail.kernel.capabilities import keep_capabilities
from dnstrail_probe.ebpf.getaddrinfo.elf import c_libraries, usual_libraries
from dnstrail_probe.ebpf.getaddrinfo.uprobes import MOST_FILES, UprobeTable, Watch
from dnstrail_probe.host.process_root import Identity, identity, open_root, real_user
from dnstrail_probe.host.procfs import process_ids

_AGAIN = 1.0  # seconds after which a program is examined again: its library can have been replaced
_REMEMBERED = 4096  # programs
_START = 5.0  # seconds for which a starting container is polled
_POLL = 0.002  # seconds between two polls of starting containers
_MOST_STARTING = 64
_SWEEP = 2.0  # seconds between two sweeps for libraries that no process uses any more
_Message = Callable[[float], object]  # what the thread is to do, as of a time
_Examined = tuple[Identity, Identity, int]  # program, root and user: the library of one user can have found no room
COUNTERS = ("libraries_watched", "libraries_refused", "libraries_dropped", "starts_dropped")
#: started programs that wait for inspection -> the probe inspects all processes: `starts_dropped`
_MOST_WAITING = 4096
_DESCRIPTORS = 1024  # for everything except libraries
_PATIENCE = 5.0  # seconds to wait for the first examination of all processes
_FAREWELL = 2.0  # seconds to wait for the end; the kernel detaches with the process what the thread did not


class LibraryFinder:
    """The programs that were examined, and the containers that are starting.

    The files are untrusted, and their file system can hang: the finder must run in a thread of its own. Every table is
    bounded. Times are seconds of a clock that never steps, and come with the calls. `processes` lists the processes of
    the host.
    """

    def __init__(
        self, files: UprobeTable, counters: Counter[str], processes: Callable[[], Iterable[int]] = process_ids
    ) -> None:
        self._files = files
        self._counters = counters
        self._processes = processes
        self._examined: OrderedDict[_Examined, float] = OrderedDict()  # -> time
        self._starting: dict[str, float] = {}  # cgroup of a starting container -> time at which polling ends
        self._host = _host_root()
        self._incomplete = False
        self._polled = self._swept = float("-inf")

    @property
    def wait(self) -> float:
        """The seconds after which `advance` must be called again."""
        return _POLL if self._starting else _SWEEP

    def examine_all(self, now: float) -> None:
        """Watch the libraries of all processes."""
        for pid in self._processes():
            self.examine(pid, now)

    def examine(self, pid: int, now: float) -> None:
        """Watch the library of a process, if its program was not examined just now."""
        self._guarded(partial(self._watch_named, pid, now))

    def expect_container(self, cgroup: str, now: float) -> None:
        """Watch the library of a container before its first program runs.

        The process of a starting container has the container's root for a moment before it executes the program, so the
        cgroup is polled for such a process.
        """
        if len(self._starting) < _MOST_STARTING:
            self._starting[cgroup] = now + _START

    def examine_all_later(self) -> None:
        """Let the next sweep examine all processes: some were not reported."""
        self._incomplete = True

    def advance(self, now: float) -> None:
        """Poll starting containers, and sweep, where it is time for that."""
        if now - self._polled >= _POLL:
            self._polled = now
            self._poll_starting(now)
        if now - self._swept >= _SWEEP:
            self._swept = now
            self._sweep(now)

    def _poll_starting(self, now: float) -> None:
        for cgroup, until in list(self._starting.items()):
            if self._has_started(cgroup) or now > until:
                del self._starting[cgroup]

    def _has_started(self, cgroup: str) -> bool:
        """Return true if a process of the cgroup has a root of its own and was examined, or if the cgroup is gone."""
        try:
            processes = Path(cgroup, "cgroup.procs").read_text(encoding="ascii").split()
        except OSError:
            return True
        return any(self._guarded(partial(self._watch_usual, int(pid))) for pid in processes)

    def _guarded(self, watch: Callable[[], bool]) -> bool:
        try:
            return watch()
        except OSError:  # the process has ended, or this user may not read it
            return False
        except Exception:  # noqa: BLE001 - no file may stop the search for other libraries
            self._counters["libraries_refused"] += 1
            return False

    def _watch_usual(self, pid: int) -> bool:
        """Watch the libraries in the usual places below the root of a process; return false if it is the host's."""
        with open_root(pid) as directory:
            root = identity(os.fstat(directory))
            if root == self._host:
                return False
            for file in usual_libraries(directory):
                self._files.watch(pid, file, root)
            return True

    def _watch_named(self, pid: int, now: float) -> bool:
        """Watch the libraries that the program of a process names; return false if it was examined just now."""
        with open_root(pid) as directory:
            root = identity(os.fstat(directory))
            examined = identity(Path(f"/proc/{pid}/exe").stat()), root, real_user(pid)
            if now - self._examined.get(examined, float("-inf")) < _AGAIN:
                return False
            for file in c_libraries(pid, directory):
                self._files.watch(pid, file, root)
            self._examined[examined] = now
            self._examined.move_to_end(examined)
            if len(self._examined) > _REMEMBERED:
                self._examined.popitem(last=False)
        return True

    def _sweep(self, now: float) -> None:
        if self._incomplete:
            self._incomplete = False
            self.examine_all(now)
        roots = set()
        for pid in self._processes():
            with suppress(OSError), open_root(pid) as directory:
                roots.add(identity(os.fstat(directory)))
        self._files.keep(roots)


def _host_root() -> Identity:
    """Return the root of the host, also if this process has another root."""
    try:
        with open_root(1) as directory:
            return identity(os.fstat(directory))
    except OSError:
        return identity(Path("/").stat())


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
        self._messages: queue.Queue[_Message] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name="C libraries", daemon=True)
        self._thread.start()
        self._ready.wait(_PATIENCE)

    def process_started(self, pid: int) -> None:
        """Watch the library of a process that executed a program."""
        self._put(partial(self._finder.examine, pid))

    def container_starting(self, cgroup: str) -> None:
        """Watch the library of a container that starts in a cgroup, given by its folder."""
        self._put(partial(self._finder.expect_container, cgroup))

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        with suppress(queue.Full):  # then the thread wakes anyway
            self._messages.put_nowait(lambda _now: None)
        self._thread.join(_FAREWELL)

    def _put(self, message: _Message) -> None:
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
                self._messages.get(timeout=self._finder.wait)(self._clock())
            if self._dropped.is_set():
                self._dropped.clear()
                self._finder.examine_all_later()
            self._finder.advance(self._clock())
        self._files.close()


def _raise_descriptor_limit() -> None:
    """Raise this process's limit of open descriptors, as far as allowed: each library needs three."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        wanted = max(soft, 3 * MOST_FILES + _DESCRIPTORS)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )
