"""Capture files as packets: pcap, pcapng and dnstap, streamed, with exact nanoseconds.

The reader is our own, because the libraries are slower or wrong. dpkt takes more than three times as long, and computes
wrong times in a pcapng file whose interfaces have different resolutions. python-pcapng ends in a RecursionError on a
capture of the test corpus. Besides, this reader returns every packet before the damage of a broken file, bounds the
memory that a hostile file can claim, and returns the packets of a pipe as they arrive. Tests compare all its frames
and times with dpkt's.
"""

from __future__ import annotations

import gzip
import os
import select
import stat
import zlib
from io import BufferedReader
from pathlib import Path
from typing import cast

from dnstrail.errors import CaptureError
from dnstrail_probe.formats.frame_stream import CONTENT_TYPE, ESCAPE, START, FrameStream, control_frame
from dnstrail_probe.formats.pcap import DAMAGE, DNSTAP, Format, Packet, Pcap, Pcapng, is_pcapng
from dnstrail_probe.formats.pcap import HEADER as PCAP_HEADER
from dnstrail_probe.formats.pcap import MAGICS as PCAP_MAGICS
from dnstrail_probe.source import CUT_SHORT, DAMAGED

_GZIP = b"\x1f\x8b"
_CHUNK = 1 << 16
UNDAMAGED = ""  # beside CUT_SHORT and DAMAGED
_DNSTAP_HEADER = control_frame(START, CONTENT_TYPE)
_OTHERS = {  # first bytes of other files -> reason, and remedy
    **dict.fromkeys(PCAP_MAGICS, "it was cut short within its header"),
    ESCAPE: "it looks like Frame Streams, but does not start as dnstap does",
    b"snoop\0": "it is a snoop file: convert it with `editcap -F pcapng`",
    b"\x28\xb5\x2f\xfd": "it is zstd-compressed: decompress it first",
}


class ByteStream:
    """A buffer that is filled from a file at its back, and consumed by a reader at its front.

    `end` is None while more bytes may come; then it states how they ended (UNDAMAGED, CUT_SHORT or DAMAGED).
    Invariant: once it is set, no more bytes are read.

    Raises:
        CaptureError: the file cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self.buffer = b""
        self.end: str | None = None
        self._poll: select.poll | None = None  # for a pipe; a file is always ready, and a gzip pipe cannot be polled
        try:
            self._raw = self._file = Path(path).open("rb")  # noqa: SIM115 - until close()
        except (OSError, ValueError) as error:  # ValueError: a path that contains NUL
            raise _unreadable(path, error) from error
        try:
            self._prepare()
        except OSError as error:
            self.close()
            raise _unreadable(path, error) from None

    def fill(self, size: int, timeout: float | None) -> bool:
        """Read until the buffer holds `size` bytes or the stream has ended; return False if that took too long."""
        parts, missing = [self.buffer], size - len(self.buffer)
        while missing > 0 and self.end is None:
            if self._poll and not self._poll.poll(None if timeout is None else timeout * 1000):
                break
            parts.append(self._more(missing))
            missing -= len(parts[-1])
        self.buffer = b"".join(parts)
        return missing <= 0 or self.end is not None

    def consume(self, size: int) -> None:
        """Remove bytes from the front of the buffer."""
        self.buffer = self.buffer[size:]

    def close(self) -> None:
        """Close the file, which ends the stream and discards the buffer."""
        self.end = self.end or UNDAMAGED
        self.buffer = b""
        self._file.close()
        self._raw.close()

    def _prepare(self) -> None:
        if self._raw.peek(len(_GZIP)).startswith(_GZIP):
            self._file = cast("BufferedReader", gzip.GzipFile(fileobj=self._raw))
        elif not stat.S_ISREG(os.fstat(self._raw.fileno()).st_mode):
            self._poll = select.poll()
            self._poll.register(self._raw, select.POLLIN)
            self.buffer = self._raw.read1(_CHUNK)  # the peek has taken these bytes out of the pipe

    def _more(self, size: int) -> bytes:
        """Return some more bytes, b"" at the end."""
        try:
            data = self._file.read1(max(size, _CHUNK))
        except EOFError:
            self.end = CUT_SHORT
            return b""
        except (gzip.BadGzipFile, zlib.error):
            self.end = DAMAGED
            return b""
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if not data:
            self.end = UNDAMAGED
        return data


def _unreadable(path: str | Path, error: Exception) -> CaptureError:
    return CaptureError(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")


class CaptureReader:
    """The packets of one capture file or pipe.

    Invariant: `damage` is "" until the file turns out to end within a record (CUT_SHORT) or to continue with bytes that
    are no record (DAMAGED); every packet before that place has been returned.

    Raises:
        CaptureError: the file cannot be read, or is no capture.
    """

    def __init__(self, path: str | Path) -> None:
        self._stream = ByteStream(path)
        self._need = 0  # bytes that the next record needs to be complete
        try:
            self._format = self._detect()
        except CaptureError:
            self.close()
            raise

    @property
    def damage(self) -> str:
        """How the file is damaged, or ""."""
        return self._stream.end or ""

    def read(self, timeout: float | None = None) -> list[Packet] | None:
        """Return the next packets, [] if none came within `timeout` seconds (None: wait), None at the end."""
        stream = self._stream
        if stream.end is None and not stream.fill(self._need, timeout):
            return []
        if stream.end is not None:
            if stream.end == UNDAMAGED and stream.buffer:
                stream.end = CUT_SHORT
            return None
        packets: list[Packet] = []
        try:
            used, self._need = self._format.split(stream.buffer, packets)
            stream.consume(used)
        except DAMAGE:
            stream.end = DAMAGED
        return packets

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _detect(self) -> Format:
        self._stream.fill(PCAP_HEADER, None)
        head = self._stream.buffer
        if is_pcapng(head):
            return Pcapng()
        if head[:4] in PCAP_MAGICS and len(head) >= PCAP_HEADER:
            self._stream.consume(PCAP_HEADER)
            return Pcap(head)
        if head.startswith(ESCAPE) and self._starts_dnstap():
            return _Dnstap()
        unknown = f"it starts with the bytes {head[:4].hex()}" if head else "nothing can be read from it"
        reason = next((text for magic, text in _OTHERS.items() if head.startswith(magic)), unknown)
        raise CaptureError(self._stream.path, f"no pcap, pcapng or dnstap file: {reason}")

    def _starts_dnstap(self) -> bool:
        self._stream.fill(len(_DNSTAP_HEADER), None)
        return self._stream.buffer.startswith(_DNSTAP_HEADER)


class _Dnstap:
    """The frames of a dnstap file."""

    def __init__(self) -> None:
        self._stream = FrameStream()

    def split(self, data: bytes, packets: list[Packet]) -> tuple[int, int]:
        """Append the complete frames (see Format)."""
        frames: list[bytes] = []
        try:
            return self._stream.split(data, frames)
        finally:
            packets += [(0, DNSTAP, frame) for frame in frames]
            self._stream.take_reply()  # a file has no reader of replies
