"""What a bus can do: publish, subscribe, serve, request, and push findings to one place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol


class Endpoint(Protocol):
    """One open end of the bus."""

    def close(self) -> None:
        """Let go of it; what was sent is still delivered for a moment."""
        ...


class Publisher(Endpoint, Protocol):
    """The sending end of events: bound, one a probe."""

    def publish(self, topic: str, body: bytes) -> bool:
        """Send to whoever subscribed; False if the message has to wait and was not taken (never for live events).

        True says that it is on its way, not that it arrived.
        """
        ...

    def subscribers(self, topic: str) -> int:
        """How many subscriptions to just this topic stand now."""
        ...


class Subscriber(Endpoint, Protocol):
    """The receiving end of events: connects to one or several publishers."""

    def receive(self) -> tuple[str, bytes] | None:
        """The next message, or None when none is there."""
        ...


class ServedRequest(Protocol):
    """A request that waits for its one reply."""

    body: bytes

    def reply(self, body: bytes) -> None:
        """Answer; a client that has gone meanwhile does not matter."""
        ...


class Server(Endpoint, Protocol):
    """The answering end of lookups."""

    def receive(self) -> ServedRequest | None:
        """The next request, or None when none is there."""
        ...


class Requester(Endpoint, Protocol):
    """The asking end of lookups."""

    def request(self, body: bytes, timeout: float) -> bytes | None:
        """Ask and wait; None when no answer came within `timeout` seconds (ask again at will)."""
        ...


class Pusher(Endpoint, Protocol):
    """The sending end of findings: connects to one puller."""

    def push(self, body: bytes, wait: float = 0.0) -> bool:
        """Send; False if the receiver is gone or behind, for `wait` seconds, and the message was not taken."""
        ...


class Puller(Endpoint, Protocol):
    """The receiving end of findings."""

    def receive(self) -> bytes | None:
        """The next message, or None when none is there."""
        ...


class Bus(Protocol):
    """Opens ends by address (`ipc:///path`)."""

    def publisher(self, address: str, *, lossless: bool) -> Publisher:
        """Bind a publisher; `lossless` makes it wait for slow subscribers instead of dropping (files alone)."""
        ...

    def subscriber(self, addresses: Iterable[str], topics: Iterable[str]) -> Subscriber:
        """Connect to publishers; topics select by prefix and are subscribed to in this order."""
        ...

    def server(self, address: str) -> Server:
        """Bind the lookups."""
        ...

    def requester(self, address: str) -> Requester:
        """Connect to the lookups."""
        ...

    def pusher(self, address: str) -> Pusher:
        """Connect to where findings go."""
        ...

    def puller(self, address: str) -> Puller:
        """Bind where findings go."""
        ...

    def wait(self, *ends: Endpoint, timeout: float) -> None:
        """Wait until one of these receiving ends has something, for `timeout` seconds at most."""
        ...

    def close(self, *, now: bool = False) -> None:
        """Close what is still open; `now` without waiting for what was sent to arrive."""
        ...
