"""Frame Streams: the frames in which dnstap is written to files and sockets (fstrm/control.h of farsightsec/fstrm)."""

from __future__ import annotations

import struct

CONTENT_TYPE = b"protobuf:dnstap.Dnstap"
ESCAPE = bytes(4)  # in the place of a length: a control frame follows
#: bytes of a frame of dnstap -> `dnstap_bad_stream`
LARGEST_FRAME = 1 << 20  # ample room for a query and a response of 64 KiB each

ACCEPT, START, STOP, READY, FINISH = 1, 2, 3, 4, 5
_CONTENT_FIELD = 1
_NUMBER = struct.Struct("!I")
_FIELD = struct.Struct("!II")
_LENGTH, _CONTROL_LENGTH = 4, 8  # bytes before a data frame, and before a control frame


def control_frame(kind: int, content_type: bytes | None = None) -> bytes:
    """Return a control frame as bytes."""
    body = _NUMBER.pack(kind)
    if content_type is not None:
        body += _FIELD.pack(_CONTENT_FIELD, len(content_type)) + content_type
    return ESCAPE + _NUMBER.pack(len(body)) + body


class FrameStream:
    """The state of one stream: before its START, in its data, or after its STOP.

    A unidirectional stream, such as a file, begins with START; a bidirectional one begins with READY and expects an
    ACCEPT. Invariant: data frames count only between START and STOP. `ended` is True after a STOP.
    """

    def __init__(self) -> None:
        self.ended = False
        self._started = False
        self._reply = bytearray()

    def split(self, data: bytes | bytearray, frames: list[bytes]) -> tuple[int, int]:
        """Append the data frames that are complete at the start of the data.

        Return the number of bytes used, and the number of bytes that the next frame needs to be complete.

        Raises:
            struct.error: the next bytes are no dnstap stream. The frames before them are appended.
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
                raise struct.error("no dnstap frame")
            if stop > size:
                return at, stop - at
            if length:
                frames.append(bytes(data[start:stop]))
            else:
                self._control(bytes(data[start:stop]))
            at = stop
        return at, _LENGTH

    def take_reply(self) -> bytes:
        """Return the bytes to send to the writer, and forget them."""
        reply = bytes(self._reply)
        self._reply.clear()
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
            raise struct.error("a control frame out of place, or of another content type")


def _is_dnstap(body: bytes) -> bool:
    """Return whether a START or READY names our content type, or none."""
    at, offered = _NUMBER.size, []
    while at < len(body):
        field, length = _FIELD.unpack_from(body, at)
        at += _FIELD.size + length
        if at > len(body):
            raise struct.error("a field that is larger than its frame")
        if field == _CONTENT_FIELD:
            offered.append(body[at - length : at])
    return not offered or CONTENT_TYPE in offered
