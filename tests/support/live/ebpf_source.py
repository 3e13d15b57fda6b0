"""The eBPF source in this process, and its events: for tests of attribution."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dns.exception
import dns.message

from dnstrail.capture_options import CaptureOptions
from dnstrail.captured import Captured
from dnstrail.events import GETADDRINFO, NET_PACKET_DNS
from dnstrail.kernel.cgroups import find_cgroup2
from dnstrail.process.clock import StreamClock
from dnstrail_probe.ebpf.loader import SIZES, Sizes
from dnstrail_probe.ebpf.source import EbpfSource
from live.processes import wait_until


class Watching:
    """A running source, with all events so far."""

    def __init__(self, source: EbpfSource) -> None:
        self.source = source
        self.events: list[tuple[str, Captured]] = []

    def look(self) -> None:
        """Read the events that have arrived."""
        self.events += self.source.read(0.01) or []

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Read events until a condition holds; a failure shows the counters of the source."""

        def holds() -> object:
            self.look()
            return condition()

        try:
            wait_until(holds, what)
        except AssertionError as failure:
            failure.add_note(f"counters: {dict(self.source.counters)}")
            raise

    def named(self, name: str) -> list[Captured]:
        """Return the events of one name."""
        return [event for topic, event in self.events if topic == name]

    def of(self, pid: int, name: str) -> list[Captured]:
        """Return the events of one name of a process."""
        return [event for event in self.named(name) if event.process and event.process.pid == pid]

    def watched(self, library: Path) -> int:
        """Return how many files with uprobes are this C library, or show it as an overlay does.

        Programs of others on this host have further ones, at any time.
        """
        known = [*self.source._getaddrinfo._libraries._files._files.values()]
        return sum(_same(each.descriptors[0], library) for each in known if len(each.descriptors) > 1)

    def of_getaddrinfo(self, name: str) -> list[Captured]:
        """Return the responses about a name that calls of getaddrinfo yielded."""
        return [event for event in self.about(name) if GETADDRINFO in event.args]

    def about(self, name: str) -> list[Captured]:
        """Return the DNS messages about a name."""
        return [event for event in self.named(NET_PACKET_DNS) if question_of(event) == name]


def _same(descriptor: int, library: Path) -> bool:
    with suppress(OSError):  # released meanwhile
        one, other = os.fstat(descriptor), library.stat()
        return (one.st_ino, one.st_size, one.st_mtime_ns) == (other.st_ino, other.st_size, other.st_mtime_ns)
    return False


@contextmanager
def watching(
    ports: frozenset[int] = frozenset({53}),
    *,
    getaddrinfo: bool = False,
    sizes: Sizes = SIZES,
    clock: StreamClock | None = None,
) -> Iterator[Watching]:
    """Start a source on the real kernel; `getaddrinfo`: with calls of getaddrinfo."""
    source = EbpfSource(CaptureOptions(ports), clock or StreamClock(), getaddrinfo=getaddrinfo, sizes=sizes)
    try:
        yield Watching(source)
    finally:
        source.close()


@contextmanager
def cgroup(name: str) -> Iterator[Path]:
    """Make a cgroup of this host that only this test uses."""
    folder = Path(str(find_cgroup2())) / name
    folder.mkdir()
    try:
        yield folder
    finally:
        if folder.exists():
            wait_until(lambda: not (folder / "cgroup.procs").read_text(), "the cgroup's processes to end")
            folder.rmdir()


def inside(folder: Path, *command: str | Path) -> list[str | Path]:
    """Return a command that runs another one in a cgroup."""
    return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', folder, *command]


def question_of(event: Captured) -> str:
    """Return the name in the question of a DNS message; "" for other bytes."""
    try:
        asked = dns.message.from_wire(event.payload, question_only=True).question
    except dns.exception.DNSException:
        return ""
    return asked[0].name.to_text(omit_final_dot=True) if asked else ""
