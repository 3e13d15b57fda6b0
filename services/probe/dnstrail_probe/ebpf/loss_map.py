"""Reads the map in which the programs count their losses by cgroup: one system call for all entries (bpf(2))."""

from __future__ import annotations

import ctypes
import errno
from typing import Any


class LossMap:
    """A hash map with at most `size` counts, by cgroup id. `library` is libbcc; the caller owns the descriptor."""

    def __init__(self, library: Any, map_fd: int, size: int) -> None:
        self.size = size
        self._library = library
        self._fd = map_fd
        self._keys, self._values = (ctypes.c_uint64 * size)(), (ctypes.c_uint64 * size)()

    def read(self) -> dict[int, int]:
        """Return all counts."""
        return self._batch(self._library.bpf_lookup_batch)

    def take(self) -> dict[int, int]:
        """Remove all counts from the map, and return them."""
        return self._batch(self._library.bpf_lookup_and_delete_batch)

    def _batch(self, operation: Any) -> dict[int, int]:
        count, place = ctypes.c_uint32(self.size), ctypes.c_uint32()
        failed = operation(self._fd, None, ctypes.byref(place), self._keys, self._values, ctypes.byref(count))
        if failed and ctypes.get_errno() != errno.ENOENT:  # ENOENT: these are all
            return {}
        return dict(zip(self._keys[: count.value], self._values[: count.value], strict=True))
