"""The thread that finishes full segments, while the worker goes on."""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple

from dnstrail_history.store.closing import finish

#: seconds for which the end of the worker waits for a segment that is finished -> the next start goes on with it
PATIENCE: Final = 10.0


class Closed(NamedTuple):
    """A full segment that the thread has tried to finish, and what prevented it."""

    path: Path
    error: Exception | None


class Closer:
    """Finishes segments one after another. `done` are those that it has tried, until they are taken."""

    def __init__(self) -> None:
        self._paths: SimpleQueue[Path | None] = SimpleQueue()
        self._done: deque[Closed] = deque()
        self._thread = threading.Thread(target=self._run, name="closer", daemon=True)
        self._thread.start()

    def add(self, path: Path) -> None:
        """Finish a segment in the thread."""
        self._paths.put(path)

    def take(self) -> list[Closed]:
        """Return the segments that the thread has tried to finish since the last call."""
        return [self._done.popleft() for _ in range(len(self._done))]

    def close(self) -> None:
        """End the thread after the segments that were added, for a bounded time."""
        self._paths.put(None)
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        while (path := self._paths.get()) is not None:
            error: Exception | None = None
            try:
                finish(path)
            except Exception as failed:  # noqa: BLE001 - the worker handles it, or raises it
                error = failed
            self._done.append(Closed(path, error))
