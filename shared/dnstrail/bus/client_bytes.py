"""The bytes of a client as the relay reads them (RFC 23/ZMTP): the bound on its messages, and its introduction."""

from __future__ import annotations

USER = "X-User"  # the property of a connection, and so of each of its messages
_READY = b"\x05READY"
_LONGEST = 255  # bytes of a command whose size is one byte
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

    def follow(self, data: bytes) -> bool:
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
        return self._follow_frames(data, at)

    def _follow_frames(self, data: bytes, at: int) -> bool:
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


class Introduction:
    """The first bytes of a client, and the name of its user before what the client says of itself.

    Of two properties with one name libzmq keeps the first. A descriptor would not do: it may belong to another
    connection when a message is read.
    """

    def __init__(self, user: int) -> None:
        name, value = USER.encode(), str(user).encode()
        self._property = bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value
        self._seen = b""
        self._ended = False

    def add_to(self, data: bytes) -> bytes:
        """Return the bytes to pass on: those of the client, with the property once READY has begun."""
        if self._ended:
            return data
        passed, self._seen = len(self._seen), self._seen + data
        greeting = greeting_size(self._seen)
        if greeting > len(self._seen):
            return data
        command = self._seen[greeting:]
        head = 9 if command and command[0] & LONG else 2
        if len(command) < head + len(_READY):
            return self._seen[min(passed, greeting) : greeting]
        self._ended = True
        return self._seen[min(passed, greeting) : greeting] + self._introduced(command, head)

    def _introduced(self, command: bytes, head: int) -> bytes:
        name, said = command[head : head + len(_READY)], command[head + len(_READY) :]
        if name != _READY:  # libzmq closes the connection
            return command
        size = int.from_bytes(command[1:head], "big") + len(self._property)
        flags = command[0] | LONG if size > _LONGEST else command[0]
        return bytes([flags]) + size.to_bytes(8 if flags & LONG else 1, "big") + name + self._property + said
