"""The introduction of a client to the worker: the relay names its user in the READY command (RFC 23/ZMTP)."""

from __future__ import annotations

from dnstrail.bus.message_bound import LONG, greeting_size

USER = "X-User"  # the property of a connection, and so of each of its messages
_READY = b"\x05READY"
_LONGEST = 255  # bytes of a command whose size is one byte


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
