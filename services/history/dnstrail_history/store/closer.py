"""The thread that finishes full segments, and forgets, while the worker goes on."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple

from dnstrail.history.closing import finish
from dnstrail.history.lives_parts import keep_part

#: seconds for which the end of the worker waits for a segment that is finished -> the next start goes on with it
PATIENCE: Final = 10.0


class Closed(NamedTuple):
    """A full segment that the thread has tried to finish, or a request to forget, and what prevented it.

    `is_part`: the lives of a part of an open segment were to be kept. `left_out` counts the answered relations whose
    lives were left out.
    """

    path: Path
    error: Exception | None
    left_out: int
    is_part: bool


class Closer:
    """A thread that works on one file after another. `pending` are those that were added, until they are taken."""

    def __init__(self) -> None:
        self._paths: SimpleQueue[tuple[Path, Callable[[Path], int | None] | None] | None] = SimpleQueue()
        self.pending: list[Path] = []
        self._done: deque[Closed] = deque()
        self._thread = threading.Thread(target=self._run, name="closer", daemon=True)
        self._thread.start()

    def add(self, path: Path, work: Callable[[Path], int | None] | None = None) -> None:
        """Finish a segment in the thread, or do other work on a file."""
        self.pending.append(path)
        self._paths.put((path, work))

    def take(self) -> list[Closed]:
        """Return the files that the thread has tried since the last call."""
        taken = [self._done.popleft() for _ in range(len(self._done))]
        for one in taken:
            self.pending.remove(one.path)
        return taken

    def close(self) -> None:
        """End the thread after the work that was added, for a bounded time."""
        self._paths.put(None)
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        while (waiting := self._paths.get()) is not None:
            path, work = waiting
            error: Exception | None = None
            left_out = 0
            try:
                left_out = (finish if work is None else work)(path) or 0
            except Exception as failed:  # noqa: BLE001 - the worker handles it, or raises it
                error = failed
            self._done.append(Closed(path, error, left_out, work is keep_part))
