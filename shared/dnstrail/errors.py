"""Everything that dnstrail raises on purpose: one root, leaves that carry their fields and name the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class DnstrailError(Exception):
    """The root of all errors that dnstrail raises on purpose."""


class SettingsError(DnstrailError):
    """An option has a value that it cannot take; the text names the option."""


class BadMessage(DnstrailError):
    """Bytes that are no DNS message: the header or the question cannot be read (RFC 1035, section 4.1)."""


class CaptureError(DnstrailError):
    """A capture file that cannot be read at all."""

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")


class SourceUnavailable(DnstrailError):
    """A live source that this host or user cannot use. `reason` names the lack, `remedy` what to do, if known."""

    def __init__(self, source: str, reason: str, remedy: str = "") -> None:
        self.source = source
        self.reason = reason
        self.remedy = remedy
        super().__init__(": ".join(part for part in (source, reason, remedy) if part))


class BusError(DnstrailError):
    """A socket cannot be opened; the text names the socket and what to do."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__(f"{address}: {reason}")


class DataSourceError(DnstrailError):
    """A data source cannot answer; the texts of the leaves are tracee's (types/detect)."""


class DataSourceMissing(DataSourceError):
    """This run does not have a data source that a signature needs."""

    def __init__(self, namespace: str, id_: str) -> None:
        self.namespace = namespace
        self.id = id_
        lacks, remedy = "no cache", "leave out --cache none and --dnscache none"
        if id_ == "facts":
            lacks, remedy = (
                "no facts of a cache",
                f"{remedy}, and name the facts of a cache on another host: --cache-facts",
            )
        elif id_ == "fleet":
            lacks, remedy = "no store of a fleet", "load this signature by `dnstrail fleet signatures --signatures`"
        super().__init__(f"data source {namespace}/{id_} is not registered: this run has {lacks}; {remedy}")


class DataNotFound(DataSourceError):
    """Nothing is known under this key.

    `complete` is False if the cache had not seen all that it was to wait for, and `history` is False if it no longer
    knows everything about the time of the lookup. `asked` is the last question for the key that brought no data, {} if
    none is known.
    """

    def __init__(
        self,
        key: object = None,
        *,
        complete: bool = True,
        history: bool = True,
        asked: Mapping[str, Any] | None = None,
    ) -> None:
        self.key = key
        self.complete = complete
        self.history = history
        self.asked = asked or {}
        super().__init__("requested data was not found")


class KeyNotSupported(DataSourceError):
    """The key is of a type that this data source does not take."""

    def __init__(self, key: object = None) -> None:
        self.key = key
        super().__init__("queried key is not supported")


class Unavailable(DataSourceError):
    """No cache answered in time, after all retries.

    `reason` names what failed: "absent" (nobody serves the socket), "permission" (this user may not use it),
    "elsewhere" (a cache serves another run-dir), "untrusted" (another user can put a socket there), "closed" (this
    client was closed), "forked" (the bus of the client is that of the parent process), or "timeout" (a process serves
    it, but did not answer).
    """

    def __init__(self, address: str, seconds: float, reason: str = "timeout", remedy: str = "") -> None:
        self.address = address
        self.seconds = seconds
        self.reason = reason
        self.remedy = remedy or "is `dnstrail cache` running?"
        super().__init__(f"no cache answered at {address} within {seconds:g} s: {self.remedy}")


class Forgotten(Unavailable):
    """The cache answers, but not about the time of the lookup: it did not receive the event, or knows it no longer."""

    def __init__(self, key: object) -> None:
        self.key = key
        self.reason = "forgotten"
        DataSourceError.__init__(
            self, "the cache does not know the time of the event: it did not receive it, or knows it no longer"
        )


class LookupRefused(DataSourceError):
    """The cache refused the request; `code` is the error code on the wire (bad_request, overloaded, ...)."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(f"{code}: {message}")
