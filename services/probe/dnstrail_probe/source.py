"""The contract of a source, and what a source is opened with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import msgspec

from dnstrail.capture_options import CaptureOptions
from dnstrail.captured import Captured, Labels
from dnstrail.process.clock import StreamClock

if TYPE_CHECKING:
    from dnstrail.protocol.batches import CgroupLoss

Captures = list[tuple[str, Captured]]  # events, each with its name

CUT_SHORT, DAMAGED = "file_cut_short", "file_damaged"  # the values of `Source.damage`
SUDO = "run it with sudo"  # the remedy for a missing capability
KERNEL, PROBE = "kernel", "probe"  # the hops at which a source can lose events


class Source(Protocol):
    """A place from which the probe reads events.

    A source states itself what it needs and what it can lose. Invariant: a source that names no capabilities keeps
    none once it is open, and every event that it loses is counted under a key of `losses`.
    """

    name: str  # for people: "capture file x.pcap"
    live: bool  # False: a file; its time stamps are the clock, and it waits for slow subscribers
    counters: Counter[str]  # packets, and everything that was skipped or lost, by reason

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The capabilities that the source needs once it is open."""

    @property
    def descriptor(self) -> int | None:
        """The descriptor that can be read once events have arrived; None if `read` alone shows it."""

    @property
    def losses(self) -> Mapping[str, str]:
        """The keys of `counters` that count lost events, each with the hop that lost them: KERNEL or PROBE."""

    @property
    def lost_by_cgroup(self) -> tuple[CgroupLoss, ...]:
        """The losses of KERNEL by cgroup, the greatest first; empty if the source does not know their owners."""

    @property
    def damage(self) -> str:
        """CUT_SHORT or DAMAGED for a capture file whose end could not be read, else ""."""

    def read(self, timeout: float) -> Captures | None:
        """Return the next events (about a thousand at most), [] if none came in `timeout` seconds, None at the end.

        After the first None every further call returns None.
        """

    def close(self) -> None:
        """Release everything that the source holds. Further calls have no effect."""


class LateNames(Protocol):
    """The names of containers that a source learns after their first events."""

    def known(self, container: str) -> tuple[str, str, Labels]:
        """Return name, image and labels of a container as far as they are known."""

    def is_awaited(self, container: str) -> bool:
        """Return whether the name of a container that has just begun is due soon."""


@runtime_checkable
class NamesContainers(Protocol):
    """A source that learns the names of containers after their first events."""

    @property
    def names(self) -> LateNames:
        """The names so far."""

    @property
    def begun(self) -> int:
        """The descriptor that can be read once a container may have begun, until `read`, which requests its name."""


class Opening(msgspec.Struct, frozen=True):
    """The input of `open_source` of a source module.

    A live source stamps its events with times of `clock`. `argument` is the text behind the colon of `--capture
    name:argument`, or the path of a capture file.
    """

    options: CaptureOptions = CaptureOptions()
    clock: StreamClock = msgspec.field(default_factory=StreamClock)
    argument: str = ""
