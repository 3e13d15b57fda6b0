"""An output: a bounded queue, the thread that writes its lines, and the contract of the writer at its end."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import structlog

from dnstrail_findings.backlog import Backlog, LineQueue

FIRST_REST = 1.0  # seconds without a try after a failure, doubling up to the longest
#: seconds of rest after a failed attempt -> it grows no further
LONGEST_REST = 60.0
MAX_LINE = 1 << 20  #: bytes of a line of an output -> the finding is lost: `too_long`
#: seconds to write what waits when the worker ends -> the finding is lost: `unsent`
PATIENCE = 8.0  # a write under way needs up to six, and a spool the rest for what is in the queue
_RETRY = 5.0  # seconds at most between two attempts of a spool to write what it holds
LOSSES = ("queue_full", "too_long", "unformatted", "refused", "spool_full", "spool_lost", "unsent")
Encode = Callable[[Any], bytes]  # of a finding, or of an entry of the log


class RefusedError(Exception):
    """The receiver refuses these lines for good, or only `lines` of them. The text names the reason."""

    def __init__(self, reason: str, lines: int | None = None) -> None:
        self.lines = lines
        super().__init__(reason)


class EndedError(Exception):
    """The receiver has left for good, and wants no more lines."""


class Writer(Protocol):
    """Writes batches of lines. It belongs to the thread of its output.

    `most` and `most_bytes` bound a batch. A batch is written whole or not at all, as far as the receiver allows it.
    """

    most: int
    most_bytes: int

    def write(self, lines: Sequence[bytes]) -> None:
        """Write lines, in bounded time.

        Raises:
            OSError: They were not written now, and may be later.
            RefusedError: They were refused for good.
            EndedError: The receiver wants no more lines.
        """

    def close(self) -> None:
        """Close the writer."""


def check_outputs(outputs: Iterable[Output]) -> None:
    """Raise the error that ended the thread of an output.

    Raises:
        Exception: It is a fault of dnstrail.
    """
    for output in outputs:
        if output.error is not None:
            raise output.error


def close_outputs(outputs: Sequence[Output]) -> None:
    """Close outputs at the same time."""
    for output in outputs:
        output.stop()
    end = time.monotonic() + PATIENCE
    for output in outputs:
        output.close(max(end - time.monotonic(), 0.0))


class Output:
    """One output. No receiver delays the worker: a finding that finds no room is lost, and counted.

    `counters` counts findings `written`, and those lost, by reason (LOSSES); and `failures` of the writer, after which
    the same lines are tried again. `ended` is true once the receiver wants no more. `error` is the fault of dnstrail
    that ended the thread.
    """

    def __init__(
        self,
        name: str,
        encode: Encode,
        writer: Writer,
        backlog: Backlog | None = None,
        counters: Counter[str] | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        rest: float = FIRST_REST,
    ) -> None:
        self.name = name
        self.counters: Counter[str] = Counter() if counters is None else counters
        self.ended = False
        self.error: BaseException | None = None
        self._encode = encode
        self._writer = writer
        self._backlog = Backlog() if backlog is None else backlog
        self._queue = LineQueue()
        self._monotonic = monotonic
        self._first_rest = rest
        self._rest = 0.0
        self._due = float("-inf")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def lost(self) -> int:
        """The number of findings that were lost."""
        return sum(self.counters[reason] for reason in LOSSES)

    @property
    def waiting(self) -> int:
        """The number of findings that wait."""
        return len(self._queue) + len(self._backlog)

    @property
    def is_half_full(self) -> bool:
        """True if more than half of the queue is taken, or of a spool that would take the queue, too."""
        return self._queue.is_half_full or self._backlog.is_half_full(self._queue.bytes)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, finding: Any) -> None:
        """Take a finding, or an entry of the log, or count it as lost."""
        if self.ended:
            self.counters["refused"] += 1
            return
        try:
            line = self._encode(finding)
        except Exception as error:  # noqa: BLE001 - no finding of a stranger ends the worker
            self.counters["unformatted"] += 1
            structlog.get_logger().error("finding_not_formatted", output=self.name, error=repr(error))
            return
        if len(line) > MAX_LINE:
            self.counters["too_long"] += 1
        elif not self._queue.add(line):
            self.counters["queue_full"] += 1

    def stop(self) -> None:
        """Let the thread write what waits, and end."""
        self._closing.set()
        self._queue.close()

    def close(self, patience: float = PATIENCE) -> None:
        """Wait for the thread to end. Count as lost what could not be written in time."""
        self.stop()
        self._thread.join(patience)
        self.counters["unsent"] += len(self._queue) + self._backlog.at_risk
        if not self._thread.is_alive():
            self._backlog.close()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._step()
            self._write_rest()
        except EndedError:
            self.ended = True
        except BaseException as error:  # noqa: BLE001 - the main loop raises it
            self.error = error
        self._writer.close()

    def _step(self) -> None:
        pause = max(self._due - self._monotonic(), 0.0) if len(self._backlog) else None
        if self._backlog.has_room:
            self._fetch(pause)
        else:
            self._closing.wait(pause and min(pause, _RETRY))
            self._backlog.retry()
        if self._monotonic() >= self._due:
            self._write_first()

    def _fetch(self, wait: float | None) -> None:
        lines = self._queue.take(self._writer.most, self._writer.most_bytes, wait)
        if lines:
            self._backlog.add(lines)

    def _write_first(self) -> bool:
        """Write the oldest batch; return False if there is none, or if it failed."""
        lines: Sequence[bytes] = ()
        try:
            lines = self._backlog.first()
            if not lines:
                return False
            self._writer.write(lines)
        except RefusedError as error:
            refused = len(lines) if error.lines is None else error.lines
            self.counters["refused"] += refused
            self.counters["written"] += len(lines) - refused
            structlog.get_logger().warning("findings_refused", output=self.name, error=str(error), findings=refused)
        except OSError as error:
            self._fail(error)
            return False
        else:
            self.counters["written"] += len(lines)
        self._backlog.done()
        self._recover()
        return True

    def _write_rest(self) -> None:
        """Write what waits. Before each attempt, a spool takes the whole queue: its batches survive the end."""
        goes_on = True
        end = self._monotonic() + PATIENCE
        while goes_on:
            self._backlog.retry()
            while self._backlog.has_room and len(self._queue):
                self._fetch(0)
            goes_on = self._monotonic() < end and self._write_first()

    def _fail(self, error: OSError) -> None:
        if not self._rest:
            reason = f"{type(error).__name__}: {error}"
            structlog.get_logger().warning("output_failed", output=self.name, error=reason)
        self.counters["failures"] += 1
        self._rest = min(self._rest * 2, LONGEST_REST) or self._first_rest
        self._due = self._monotonic() + self._rest

    def _recover(self) -> None:
        if self._rest:
            structlog.get_logger().info("output_recovered", output=self.name, **self.counters)
        self._rest, self._due = 0.0, float("-inf")
