"""Frame Streams: the frames in which dnstap is written to files and sockets (fstrm/control.h of farsightsec/fstrm)."""

from __future__ import annotations

import struct

CONTENT_TYPE = b"protobuf:dnstap.Dnstap"
ESCAPE = bytes(4)  # in the place of a length: a control frame follows
LARGEST_FRAME = 1 << 20  # bytes; a query and a response of 64 KiB each, and much room

ACCEPT, START, STOP, READY, FINISH = 1, 2, 3, 4, 5
_CONTENT_FIELD = 1
_NUMBER = struct.Struct("!I")
_FIELD = struct.Struct("!II")
_LENGTH, _CONTROL_LENGTH = 4, 8  # bytes before a data frame, and before a control frame


def control_frame(kind: int, content_type: bytes | None = None) -> bytes:
    """A control frame as it is written."""
    body = _NUMBER.pack(kind)
    if content_type is not None:
        body += _FIELD.pack(_CONTENT_FIELD, len(content_type)) + content_type
    return ESCAPE + _NUMBER.pack(len(body)) + body


class FrameStream:
    """Where the reading of one stream stands: before its START, in between, or behind its STOP.

    A stream that is not for both ways, as in a file, begins with its START. `ended` is set by a STOP.
    """

    def __init__(self) -> None:
        self.ended = False
        self._started = False
        self._reply = b""

    def split(self, data: bytes | bytearray, frames: list[bytes]) -> tuple[int, int]:
        """Append the data frames that stand whole at the start of the data; the bytes used, and how many are needed.

        Raises struct.error from where on it is no stream of dnstap, with what was whole appended.
        """
        at, size = 0, len(data)
        while at + _LENGTH <= size:
            (length,) = _NUMBER.unpack_from(data, at)
            start = at + _LENGTH
            if not length:
                if at + _CONTROL_LENGTH > size:
                    return at, _CONTROL_LENGTH
                (control_length,) = _NUMBER.unpack_from(data, start)
                start = at + _CONTROL_LENGTH
            stop = start + (length or control_length)
            if stop - start > LARGEST_FRAME or (length and not self._started):
                raise struct.error("no frame of dnstap")
            if stop > size:
                return at, stop - at
            if length:
                frames.append(bytes(data[start:stop]))
            else:
                self._control(bytes(data[start:stop]))
            at = stop
        return at, _LENGTH

    def take_reply(self) -> bytes:
        """What the writer is to be told; b"" the next time."""
        reply, self._reply = self._reply, b""
        return reply

    def _control(self, body: bytes) -> None:
        (kind,) = _NUMBER.unpack_from(body)
        if kind == STOP and self._started:
            self._started, self.ended = False, True
            self._reply += control_frame(FINISH)
        elif kind in (START, READY) and not self._started and _is_dnstap(body):
            self._started, self.ended = kind == START, False
            self._reply += control_frame(ACCEPT, CONTENT_TYPE) if kind == READY else b""
        elif kind <= FINISH:
            raise struct.error("a control frame out of its place, or of other content")


def _is_dnstap(body: bytes) -> bool:
    """Whether a START or READY names our content type, or none at all."""
    at, offered = _NUMBER.size, []
    while at < len(body):
        field, length = _FIELD.unpack_from(body, at)
        at += _FIELD.size + length
        if at > len(body):
            raise struct.error("a field larger than its frame")
        if field == _CONTENT_FIELD:
            offered.append(body[at - length : at])
    return not offered or CONTENT_TYPE in offered
