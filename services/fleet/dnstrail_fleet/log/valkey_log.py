"""A log on Valkey streams, over TLS: the stream `dnstrail:rows:HOST` of each host, and a group of readers."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import structlog

from dnstrail_fleet.log.contract import LogUnavailableError, StreamEntry, StreamLag
from dnstrail_fleet.log.engine_address import EngineAddress
from dnstrail_fleet.log.engine_client import call_engine, open_client

PREFIX: Final = "dnstrail:rows:"
GROUP: Final = "dnstrail"
#: entries of the stream of a host, about -> sender and store trim the oldest: `trimmed` in `dnstrail fleet hosts`
MOST_ENTRIES: Final = 16_384
#: bytes of the stream of a host in the engine -> the store removes all its entries: only a hostile host sends as much
MOST_OF_STREAM: Final = 256 << 20
#: hosts whose streams a store reads -> those of further hosts wait: `hosts_left_out` in the log
MOST_HOSTS: Final = 1_024
#: last entries that a sender can append again after a change of the primary -> earlier ones may be lost: `entries_lost`
MOST_UNSURE: Final = 32
DEAD: Final = 10_000  # ms without an acknowledgement after which another reader gets an entry
_LOOK: Final = 1.0  # seconds between two looks for new streams, and for long ones
_CLAIM: Final = 0.25  # seconds between two looks for the entries of dead readers, in _STREAMS streams each
_STREAMS: Final = 16  # that are read together
_AT_ONCE: Final = 4  # entries of a stream that are read together: strangers may write large ones
_KEPT: Final = 128  # entries of a stream that stay in the engine when all groups have them
_T = TypeVar("_T")


class ValkeyLog:
    """The log of one process. It connects at the first call, and anew after an error."""

    def __init__(
        self,
        address: EngineAddress,
        monotonic: Callable[[], float],
        *,
        dead: int = DEAD,
        most: int = MOST_ENTRIES,
        group: str = GROUP,
    ) -> None:
        """Open a client. The group of the stores also trims the streams.

        Raises:
            SettingsError: The CA cannot be used, or the client is not installed.
        """
        self.left_out = 0  # streams beyond MOST_HOSTS
        self.repeated = 0
        self._address = address
        self._monotonic = monotonic
        self._dead = dead
        self._most = most
        self._group = group
        self._consumer = f"{socket.gethostname()}-{os.getpid()}"
        self._streams: list[str] = []
        self._trimmed: dict[str, tuple[int, int]] = {}  # how many a stream lost in all, and up to which entry
        self._claimed: dict[str, bytes] = {}  # up to where each stream was searched for entries of dead readers
        self._turn = self._claim_turn = self._size_turn = 0
        self._look = self._next_claim = float("-inf")
        self._unsure: deque[tuple[bytes, bytes]] = deque(maxlen=MOST_UNSURE)  # the ids and bodies of the last entries
        self._client = open_client(address, self._repeat)

    def append(self, body: bytes) -> None:
        """Append an entry to the stream of this host.

        Raises:
            LogUnavailableError: The engine did not take it, as far as is known.
        """
        stream = PREFIX + self._address.user
        number = self._call(lambda: self._client.xadd(stream, {"e": body}, maxlen=self._most, approximate=True))
        self._unsure.append((number, body))

    def read(self, most: int) -> list[StreamEntry]:
        """Return entries that no other reader of the group has, and those that no reader acknowledged in time.

        New entries are among them, however many come again; [] if there is none.

        Raises:
            LogUnavailableError: The engine cannot be read.
        """
        return self._call(lambda: self._read(most))

    def acknowledge(self, entries: Iterable[StreamEntry]) -> None:
        """State that entries are stored: nobody receives them again.

        Raises:
            LogUnavailableError: The engine did not take it: the entries may come again.
        """
        ids: dict[str, list[str]] = {}
        for entry in entries:
            ids.setdefault(entry.host, []).append(entry.id)
        pipeline = self._client.pipeline(transaction=False)
        for host, of_host in ids.items():
            pipeline.xack(PREFIX + host, self._group, *of_host)
        self._call(pipeline.execute)

    def lag(self) -> dict[str, StreamLag]:
        """Return the state of each stream.

        Raises:
            LogUnavailableError: The engine cannot be read.
        """
        return self._call(self._lag)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _repeat(self, connection: Any) -> None:
        """Append again, with their ids, the last entries that the server of a new connection does not have.

        A replica that became the primary may lack the last ones. It refuses each id up to the last one that it has.
        """
        from valkey.exceptions import ResponseError  # noqa: PLC0415 - an extra, which only the fleet needs

        before = self.repeated
        append = ("XADD", PREFIX + self._address.user, "MAXLEN", "~", self._most)
        for number, body in self._unsure:
            connection.send_command(*append, number, "e", body)
            try:
                connection.read_response()
            except ResponseError as error:
                if "equal or smaller" not in str(error):
                    raise
            else:
                self.repeated += 1
        if count := self.repeated - before:
            structlog.get_logger().warning("entries_repeated", count=count)
        if count == MOST_UNSURE:
            structlog.get_logger().warning("entries_lost", before=self._unsure[0][0].decode())

    def _read(self, most: int) -> list[StreamEntry]:
        now = self._monotonic()
        if now >= self._look:
            is_new = self._find_streams()
            if self._group == GROUP:
                if is_new:
                    self._lag()  # a read hides what was trimmed before it
                self._bound_bytes()
            self._look = now + _LOOK
        again: list[StreamEntry] = []
        if now >= self._next_claim:
            self._next_claim = now + min(_CLAIM, self._dead / 1000)
            again = self._claim()
        found: list[StreamEntry] = []
        for _ in range(0, len(self._streams), _STREAMS):
            part = self._part(self._turn)
            self._turn += _STREAMS
            read = self._client.xreadgroup(self._group, self._consumer, dict.fromkeys(part, ">"), count=_AT_ONCE)
            found += [entry for stream, entries in read for entry in _entries_of(stream.decode(), entries)]
            if len(found) >= most:
                break
        return again + found

    def _part(self, turn: int) -> list[str]:
        """Return the streams whose turn it is."""
        count = len(self._streams)
        return [self._streams[(turn + at) % count] for at in range(min(_STREAMS, count))]

    def _find_streams(self) -> bool:
        """Look for streams, and make the group in new ones, from their begin on; return whether there are new ones.

        What left a stream before is lost for the stores alone.
        """
        from valkey.exceptions import ResponseError  # noqa: PLC0415 - an extra, which only the fleet needs

        found = sorted(key.decode("utf-8", "replace") for key in self._client.scan_iter(f"{PREFIX}*", count=1000))
        if (left_out := max(0, len(found) - MOST_HOSTS)) > self.left_out:
            structlog.get_logger().warning("hosts_left_out", count=left_out)
        self.left_out = left_out
        new = {*found[:MOST_HOSTS]}.difference(self._streams)
        for stream in new:
            try:
                before = 0 if self._group == GROUP else self._removed(stream)
                self._client.xgroup_create(stream, self._group, id="0", entries_read=before)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise
        self._streams = found[:MOST_HOSTS]
        return bool(new)

    def _removed(self, stream: str) -> int:
        """Return the number of entries that a stream had, and has no more."""
        found = self._client.xinfo_stream(stream)
        return int(found["entries-added"] - found["length"])

    def _bound_bytes(self) -> None:
        """Bound the bytes of some streams in turn: a host may append what it wants."""
        part = self._part(self._size_turn)
        self._size_turn += _STREAMS
        pipeline = self._client.pipeline(transaction=False)
        for stream in part:
            pipeline.memory_usage(stream, samples=0)
        for stream, size in zip(part, pipeline.execute(), strict=True):
            if (size or 0) > MOST_OF_STREAM:
                structlog.get_logger().warning("stream_removed", host=stream.removeprefix(PREFIX), bytes=size)
                unread = self._lag()[stream.removeprefix(PREFIX)].waiting
                self._note_removed(stream, unread, self._client.xtrim(stream, maxlen=0, approximate=False))

    def _note_removed(self, stream: str, unread: int, removed: int) -> None:
        total, until = self._trimmed[stream]
        self._trimmed[stream] = total + unread, until + removed

    def _claim(self) -> list[StreamEntry]:
        """Return some entries that nobody acknowledged in time: those of readers that died, or of a later version."""
        part = self._part(self._claim_turn)
        self._claim_turn += _STREAMS
        pipeline = self._client.pipeline(transaction=False)
        for stream in part:
            begin = self._claimed.get(stream, b"0-0")
            pipeline.xautoclaim(stream, self._group, self._consumer, self._dead, start_id=begin, count=_AT_ONCE)
        claimed: list[StreamEntry] = []
        for stream, (begin, entries, gone) in zip(part, pipeline.execute(), strict=True):
            self._claimed[stream] = begin
            claimed += [entry._replace(is_again=True) for entry in _entries_of(stream, entries)]
            total, until = self._trimmed.get(stream, (0, 0))
            self._trimmed[stream] = total + len(gone), until  # they were trimmed before anybody acknowledged them
        return claimed

    def _lag(self) -> dict[str, StreamLag]:
        pipeline = self._client.pipeline(transaction=True)
        for stream in self._streams:
            pipeline.xlen(stream)
            pipeline.xinfo_groups(stream)
        replies = pipeline.execute()
        found: dict[str, StreamLag] = {}
        done: dict[str, bytes] = {}  # the last entry that all groups of a stream have
        long: dict[str, int] = {}  # how many entries of a stream that is too long were read
        for stream, length, groups in zip(self._streams, replies[::2], replies[1::2], strict=True):
            if length > _KEPT and not any(group["pending"] for group in groups):
                done[stream] = min((group["last-delivered-id"] for group in groups), key=_place, default=b"0-0")
            waiting = trimmed = 0
            total, until = self._trimmed.get(stream, (0, 0))
            for group in groups:
                if (
                    group["name"] == self._group.encode()
                    and group["lag"] is not None
                    and group["entries-read"] is not None
                ):
                    removed = group["entries-read"] + group["lag"] - length
                    trimmed = max(0, removed - max(group["entries-read"], until))
                    waiting, until = min(group["lag"], length), max(until, removed)
            if length > self._most:
                long[stream] = length - waiting
            self._trimmed[stream] = total + trimmed, until
            found[stream.removeprefix(PREFIX)] = StreamLag(waiting, total + trimmed)
        if self._group == GROUP:
            self._remove(done, long)
        return found

    def _remove(self, done: dict[str, bytes], long: dict[str, int]) -> None:
        """Remove what all groups have, and what is too much: a host may append what it wants."""
        pipeline = self._client.pipeline(transaction=False)
        for stream in long:
            pipeline.xtrim(stream, maxlen=self._most, approximate=True, limit=0)
        for stream, last in done.items():
            pipeline.xtrim(stream, minid=last, approximate=True, limit=0)
        for (stream, read), removed in zip(long.items(), pipeline.execute(), strict=False):
            self._note_removed(stream, max(0, removed - read), removed)

    def _call(self, call: Callable[[], _T]) -> _T:
        """Return the result of a call.

        Raises:
            LogUnavailableError: The engine does not answer, or refuses.
        """
        try:
            return call_engine(self._address, call)
        except LogUnavailableError:
            self._look = self._next_claim = float("-inf")
            self._streams = []
            raise


def _place(number: bytes) -> tuple[int, ...]:
    """Return the place of an entry in its stream."""
    return tuple(map(int, number.split(b"-")))


def _entries_of(stream: str, entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[StreamEntry]:
    """Return entries with their times: the first part of an id is the time of the engine, in ms."""
    host = stream.removeprefix(PREFIX)
    return [
        StreamEntry(host, number.decode(), int(number.partition(b"-")[0]), (fields or {}).get(b"e", b""))
        for number, fields in entries
    ]
