"""A request as it arrived at the bus: its client, its envelope, and the reply to it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import zmq

from dnstrail.bus.client_bytes import USER

MAX_ENVELOPE = 4096  #: bytes that a client puts before its request -> `bad_request`
#: frames of a request -> `bad_request`
MAX_FRAMES = 16
REMOTE = "User-Id"  # the property of a connection from another host: the name of its key. A key is always checked

Frames = list[bytes]


class RoutedRequest:
    """A request that awaits its one reply. `send` delivers the frames of the reply to a client.

    `relay` is the process id of the relay, 0 without it.
    """

    def __init__(self, send: Callable[[bytes, Frames], bool], client: zmq.Frame, sent: Frames, relay: int = 0) -> None:
        self._send = send
        self._relay = relay
        self._first = client  # ROUTER puts the client before every request
        self.client = client.bytes
        self.fault = _fault_of(sent)
        self.body = b"" if self.fault else sent[-1]
        self._envelope = [self.client, *(_start_of(sent) if self.fault else sent[:-1])]

    @property
    def remote(self) -> str:
        """The name of the key of a client on another host, "" for a client of this host."""
        with suppress(zmq.ZMQError):
            return str(self._first.get(REMOTE))
        return ""

    @property
    def user(self) -> int | None:
        """The user at the other end of a unix socket, as the kernel states it: `host:user:group:process`.

        The relay states the user of a connection that it passes on.
        """
        if self.remote:
            return None
        with suppress(zmq.ZMQError, ValueError):
            _, user, _, process = str(self._first.get("Peer-Address")).rsplit(":", 3)
            return int(str(self._first.get(USER)) if int(process) == self._relay else user)
        return None

    def reply(self, body: bytes) -> bool:
        """Send the reply; return False if the client has not read its earlier replies."""
        return self._send(self.client, [*self._envelope, body])


def _fault_of(sent: Frames) -> str:
    """Return why a request cannot be read, or ""."""
    if len(sent) > MAX_FRAMES and (count := len(sent) - len(_start_of(sent))) > MAX_FRAMES:
        return f"{count} frames; {MAX_FRAMES} at most"
    if (size := sum(map(len, sent[:-1]))) > MAX_ENVELOPE:
        return f"{size} bytes before the request; {MAX_ENVELOPE} at most"
    return ""


def _start_of(sent: Frames) -> Frames:
    """Return what a REQ client puts before its request, so that it receives the refusal; [] for other clients."""
    start = sent[: sent.index(b"") + 1] if b"" in sent[:2] else []
    return start if sum(map(len, start)) <= MAX_ENVELOPE else []
