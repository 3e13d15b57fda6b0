"""The contract of a bus: publish, subscribe, serve, request, and push findings to one receiver."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from dnstrail.bus.remote_host import RemoteHost


class Endpoint(Protocol):
    """An open end of the bus. Only the bus that opened it may wait for it."""

    def close(self) -> None:
        """Close the end; messages that were sent are still delivered for a moment."""


class Publisher(Endpoint, Protocol):
    """The sending end of events. It is bound; each probe has one."""

    def publish(self, topic: str, body: bytes) -> bool:
        """Send a message to all subscribers; False if the bus did not accept it, and the caller has to repeat it.

        A publisher that is not lossless always returns True. True means that the message is on its way, not that it
        arrived.
        """

    def subscribers(self, topic: str) -> int:
        """Return the number of subscriptions to exactly this topic."""

    @property
    def overflowed(self) -> bool:
        """Whether a subscriber ever had no room for a message, and missed it. A lossless publisher never overflows."""

    @property
    def disconnected(self) -> int:
        """The number of connections that were closed because their subscriber sent too many messages."""

    @property
    def refused(self) -> int:
        """The number of connections of other hosts that were refused: their keys are not allowed."""

    def linger(self, seconds: float) -> None:
        """Set for how long the publisher still delivers once it is closed."""


class Subscriber(Endpoint, Protocol):
    """The receiving end of events. It connects to one or several publishers."""

    def receive(self) -> tuple[str, bytes] | None:
        """Return the next message, or None if none has arrived. Hosts take turns, however much one of them sends."""

    @property
    def publisher(self) -> RemoteHost | None:
        """The host that published the message that was received last; None for this host."""

    def fill(self) -> None:
        """Take what has arrived into memory, within a bound: a caller that cannot handle it yet makes room for more."""

    def subscribe(self, topic: str, start: str = "") -> None:
        """Subscribe to a further topic, with the id of a start at its publisher alone.

        The publishers count this subscription after all earlier ones.
        """

    def unsubscribe(self, topic: str, start: str = "") -> None:
        """Cancel the subscription to a topic, with the id of a start as above."""

    def reopen(self, start: str) -> None:
        """Connect and subscribe anew to the publisher of a start; this host is one publisher.

        Its messages that were not received yet are lost.
        """


class ServedRequest(Protocol):
    """A request that awaits its one reply. `client` identifies the connection over which it arrived.

    `fault` states why the bus cannot read the request, whose body is then empty; else it is "".
    """

    client: bytes
    body: bytes
    fault: str

    @property
    def remote(self) -> str:
        """The name of the key of a client on another host; "" for a client of this host."""

    @property
    def user(self) -> int | None:
        """The user id of the process at the other end; None on another host, or if the bus does not know it."""

    def reply(self, body: bytes) -> bool:
        """Send the reply; a client that has left is no error.

        Return False if the client has not read its earlier replies, and the bus has no room: the caller may send a
        short reply instead.
        """


class Server(Endpoint, Protocol):
    """The answering end of lookups."""

    def receive(self) -> ServedRequest | None:
        """Return the next request, or None if none has arrived."""

    @property
    def refused(self) -> int:
        """The number of connections of other hosts that were refused: their keys are not allowed."""


class Requester(Endpoint, Protocol):
    """The asking end of lookups."""

    @property
    def remote(self) -> RemoteHost | None:
        """The host of the server; None for this host."""

    def request(self, body: bytes, timeout: float) -> bytes | None:
        """Send a request and return its reply, or None if none arrived within `timeout` seconds.

        A later request never receives the reply to an earlier one.
        """

    def send(self, body: bytes) -> bool:
        """Send a request without waiting; False if it cannot be sent now. It replaces an unanswered one."""

    def reply(self) -> bytes | None:
        """Return the reply to the request that was sent last, or None if none has arrived."""


class Pusher(Endpoint, Protocol):
    """The sending end of findings. It connects to one puller.

    If the puller is lost, the next one receives the messages of the last 40 seconds again, so that none is missing.
    """

    def push(self, body: bytes, wait: float = 0.0) -> bool:
        """Send a message; False if the receiver did not accept it within `wait` seconds."""

    @property
    def connected(self) -> bool:
        """Whether a puller is there."""

    @property
    def waiting(self) -> int:
        """The number of messages that were accepted since no puller is there; they wait for the next one."""


class Puller(Endpoint, Protocol):
    """The receiving end of findings."""

    def receive(self) -> bytes | None:
        """Return the next message, or None if none has arrived."""


class Bus(Protocol):
    """A factory of ends by address. A bus and its ends belong to one thread.

    An address is `ipc:///path`, or `tcp://ADDRESS:PORT` between hosts, where both ends know the keys of each other.
    """

    def publisher(self, *addresses: str, lossless: bool) -> Publisher:
        """Bind a publisher; a lossless one waits for slow subscribers instead of dropping (capture files only)."""

    def subscriber(self, addresses: Iterable[str], topics: Iterable[str]) -> Subscriber:
        """Connect to publishers and subscribe to topics, in this order."""

    def server(self, *addresses: str) -> Server:
        """Bind the answering end of lookups."""

    def requester(self, address: str) -> Requester:
        """Connect the asking end of lookups."""

    def pusher(self, address: str) -> Pusher:
        """Connect the sending end of findings."""

    def puller(self, *addresses: str) -> Puller:
        """Bind the receiving end of findings."""

    def wait(self, *ends: Endpoint, timeout: float, file: int | None = None) -> bool:
        """Wait until a message arrives at one of these receiving ends of this bus, or `timeout` seconds have passed.

        Return as well if the descriptor `file` can be read, or after `wake`. The result is False if the time is over.
        """

    def wake(self) -> None:
        """End the wait for messages, or else the next one. Each thread, and the handler of a signal, may call this."""

    def close(self, *, now: bool = False) -> None:
        """Close all ends that are still open; `now` discards the messages that have not arrived yet."""
