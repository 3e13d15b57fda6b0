"""The file of mutes as the page changes it: the one file of the page's own that other workers read."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from dnstrail.errors import SettingsError
from dnstrail.mutes import LONGEST, MOST, MOST_BYTES, FindingMute, read_mutes, write_mutes
from dnstrail.protocol.lookups import BAD_REQUEST
from dnstrail_web.errors import NOT_FOUND, UNAVAILABLE, ApiError


class Muting:
    """The mutes in a file, without those that have expired; None: there is no file. Threads take turns."""

    def __init__(self, path: Path | None, wall: Callable[[], float]) -> None:
        self._path = path
        self._wall = wall
        self._turn = threading.Lock()

    @property
    def is_possible(self) -> bool:
        """Whether findings can be muted."""
        return self._path is not None

    def all(self) -> list[dict[str, Any]]:
        """Return the mutes.

        Raises:
            ApiError: there is no file, or it cannot be read.
        """
        return [msgspec.to_builtins(one) for one in self._present(self._file())]

    def add(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Add a mute, and return it.

        Raises:
            ApiError: it is too long, there are too many, or the file cannot be written.
        """
        seconds = asked.pop("seconds")
        if seconds > LONGEST:
            raise ApiError(BAD_REQUEST, f"seconds: {LONGEST:.0f} are the most")
        mute = FindingMute(id=secrets.token_urlsafe(12), until=self._wall() + seconds, **asked)
        with self._turn:
            path = self._file()
            present = [*self._present(path), mute]
            if len(present) > MOST or len(msgspec.json.encode(present)) > MOST_BYTES:
                raise ApiError(BAD_REQUEST, f"{MOST} mutes, and {MOST_BYTES} bytes of them, are the most")
            self._write(path, present)
        found: dict[str, Any] = msgspec.to_builtins(mute)
        return found

    def remove(self, identity: str) -> None:
        """Remove a mute.

        Raises:
            ApiError: there is none of this id, or the file cannot be written.
        """
        with self._turn:
            path = self._file()
            present = self._present(path)
            left = [one for one in present if one.id != identity]
            if len(left) == len(present):
                raise ApiError(NOT_FOUND, "there is no such mute")
            self._write(path, left)

    def _file(self) -> Path:
        if self._path is None:
            raise ApiError(UNAVAILABLE, "this server has no file of mutes: see --mutes")
        return self._path

    def _present(self, path: Path) -> list[FindingMute]:
        try:
            return [one for one in read_mutes(path) if one.until > self._wall()]
        except SettingsError as error:
            structlog.get_logger().error("mutes_unreadable", error=str(error))
            raise ApiError(UNAVAILABLE, "the file of mutes cannot be read") from error

    def _write(self, path: Path, mutes: list[FindingMute]) -> None:
        try:
            write_mutes(path, mutes)
        except OSError as error:
            structlog.get_logger().error("mutes_unwritable", error=str(error))
            raise ApiError(UNAVAILABLE, "the file of mutes cannot be written") from error
