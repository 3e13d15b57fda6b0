"""A connection that the relay passes on: a client, and what was opened for it to the worker."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable
from contextlib import suppress

CHUNK = 64 << 10  # bytes of one read; one chunk waits in each direction at most
_FIRST = 1 << 10  # bytes of the first read from a client
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class RelayedConnection:
    """The bytes between a client and the worker. An end that accepts nothing stops the other one, and nobody else.

    `note(up, down)` receives the bytes that arrived from the client, or those from the worker; it returns
    how many bytes of the client to read next, 0 if it may not go on. `ended` is called once, when libzmq has closed the
    connection to the worker: never earlier, since libzmq does not survive every hang-up. `introduce` returns the bytes
    to pass on for those of the client. The selector holds the owner of the client and the function to call.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        owner: str,
        client: socket.socket,
        worker: socket.socket,
        note: Callable[[bytes, bytes], int],
        ended: Callable[[RelayedConnection], None],
        introduce: Callable[[bytes], bytes],
        *,
        outward: bool = False,
    ) -> None:
        self._selector = selector
        self._owner = owner
        self._client = client
        self._worker = worker
        self._note = note
        self._ended = ended
        self._introduce = introduce
        self._up = self._down = b""  # not accepted yet by the worker, by the client
        self._next = _FIRST  # bytes of the next read from the client
        self._began = not outward  # a server of another host has sent something
        self.left = False  # the client has left, or was cut off
        self._closed = False  # the worker has closed its end
        self._watched = {client: 0, worker: 0}
        self._settle()

    def close(self) -> None:
        """Close both ends."""
        for end in (self._client, self._worker):
            self._watch(end, 0)
            end.close()
        self._ended(self)

    @property
    def reached(self) -> bool:
        """Whether the client, or the server of another host, is connected."""
        if not self.left:
            with suppress(OSError):
                return bool(self._client.getpeername())
        return False

    def give_up(self) -> None:
        """Leave for the client. The worker learns it, even of a server that has sent nothing."""
        self._began = True
        self._leave()
        self._settle()

    def _client_ready(self, events: int) -> None:
        if events & _WRITE:
            self._down = _sent(self._client, self._down)
        if events & _READ:
            received = _received(self._client, self._next)
            self._began = self._began or bool(received)
            self._next = self._note(received, b"") if received else self._next
            if received and self._next:
                self._up = _sent(self._worker, self._introduce(received))
            elif received is not None:
                self._leave()
        self._settle()

    def _worker_ready(self, events: int) -> None:
        if events & _WRITE:
            self._up = _sent(self._worker, self._up)
            if self.left and not self._up:
                self._end_sending()
        if events & _READ:
            received = _received(self._worker, CHUNK)
            if received:
                self._note(b"", received)
                self._down = b"" if self.left else _sent(self._client, received)
            elif received is not None:
                self._closed = True
        self._settle()

    def _leave(self) -> None:
        """Close the end of the client; the worker still receives what the client sent before.

        If a server sent nothing, the worker waits until its handshake has lasted too long: it would connect again at
        once.
        """
        self.left, self._down = True, b""
        self._watch(self._client, 0)
        self._client.close()
        if self._began and not self._up:
            self._end_sending()

    def _end_sending(self) -> None:
        with suppress(OSError):  # libzmq has closed the connection
            self._worker.shutdown(socket.SHUT_WR)

    def _settle(self) -> None:
        """Watch the ends for what can be passed on next."""
        if self._closed and not self._down:
            self.close()
            return
        if not self.left:
            self._watch(self._client, _READ * (not self._up and not self._closed) | _WRITE * bool(self._down))
        self._watch(self._worker, _READ * (not self._down and not self._closed) | _WRITE * bool(self._up))

    def _watch(self, end: socket.socket, events: int) -> None:
        """Watch an end for some events. An end without any is not watched: the kernel would report its hang-up."""
        known = self._watched[end]
        if events == known:
            return
        self._watched[end] = events
        ready = self._owner, self._client_ready if end is self._client else self._worker_ready
        if not known:
            self._selector.register(end, events, ready)
        elif not events:
            self._selector.unregister(end)
        else:
            self._selector.modify(end, events, ready)


def _received(end: socket.socket, most: int) -> bytes | None:
    """Return what has arrived, up to a number of bytes; b"" if the other end hung up, None if nothing has arrived."""
    try:
        return end.recv(most)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _sent(end: socket.socket, chunk: bytes) -> bytes:
    """Send bytes; return those that the other end does not accept yet. An end that hung up accepts all."""
    try:
        return chunk[end.send(chunk) :]
    except BlockingIOError:
        return chunk
    except OSError:  # the next read reports it
        return b""
