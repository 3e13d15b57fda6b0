"""The bound on the messages of one client, as its bytes pass: their frames and bytes (RFC 23/ZMTP)."""

from __future__ import annotations

#: frames of one message before its last, of one user of this host -> the connection is closed and counted:
#: `clients_refused`, `subscribers_refused`
MOST_FRAMES = 64  # libzmq holds 64 bytes for an empty frame, of which two are sent
#: bytes of the frames of one message before its last, of one user of this host -> the connection is closed and counted:
#: `clients_refused`, `subscribers_refused`
MOST_BYTES = 4 << 20
_PONG, _EMPTY = 54, 33  # bytes as a MESSAGE of CURVE: of a PONG with the longest context, and of an empty frame
NO_HEARTBEAT = range(_PONG + 1, 1 << 64)
REQUEST = range(_EMPTY + 1)  # each request contains an empty frame; a PONG or a subscription is longer
_SIGNATURE, _REVISION = 10, 10  # bytes, and the place of the byte after them
_GREETINGS = {1: 12, 3: 64}  # bytes, by revision: ZMTP 2 and 3
_MORE, LONG, _COMMAND = 1, 2, 4  # flags of a frame


class MessageBound:
    """The messages of one client that are not encrypted: none is held without a bound before its last frame.

    libzmq holds a message until its last frame, however long it is. `frames` is the number of frames in the last bytes,
    and `counted` the number of those with a size in `sizes`: each frame of CURVE is a message without more, and its
    size alone tells what it is.
    """

    __slots__ = ("_bytes", "_frames", "_greeted", "_head", "_left", "_sizes", "counted", "frames")

    def __init__(self, sizes: range = NO_HEARTBEAT) -> None:
        self._sizes = sizes
        self._greeted = False
        self._head = b""  # the begin of a greeting, or of a frame
        self._left = 0  # bytes of the frame at hand
        self._frames = self._bytes = 0  # of the message at hand
        self.frames = self.counted = 0

    def take(self, data: bytes) -> bool:
        """Follow the next bytes; return False at a message beyond the bounds, or if they are no ZMTP 2 or 3."""
        data = self._head + data
        self.frames = self.counted = 0
        at = 0
        if not self._greeted:
            size = greeting_size(data)
            if size > len(data) or not size:
                self._head = data
                return size > 0
            self._greeted, at = True, size
        return self._follow(data, at)

    def _follow(self, data: bytes, at: int) -> bool:
        """Follow the frames from a place on."""
        end, at = len(data), at + self._left
        while at < end:
            flags = data[at]
            body = at + (9 if flags & LONG else 2)
            if body > end:
                break
            size = int.from_bytes(data[at + 1 : body], "big")
            self.frames += 1
            self.counted += size in self._sizes
            if flags & _MORE:
                self._frames += 1
                self._bytes += size
                if self._frames > MOST_FRAMES or self._bytes > MOST_BYTES:
                    return False
            elif not flags & _COMMAND:  # a command can come between two frames of a message
                self._frames = self._bytes = 0
            at = body + size
        self._left, self._head = max(at - end, 0), data[at:]
        return True


def greeting_size(data: bytes) -> int:
    """Return the size of a greeting, more than its bytes so far if it is not complete; 0 for another protocol."""
    if data[:1] not in (b"", b"\xff") or (len(data) >= _SIGNATURE and not data[_SIGNATURE - 1] & 1):
        return 0
    return _GREETINGS.get(data[_REVISION], 0) if len(data) > _REVISION else len(data) + 1
