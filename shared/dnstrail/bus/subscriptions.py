"""The subscriptions at a publisher: their number by topic, and the bound on what one subscriber sends."""

from __future__ import annotations

import os
import socket
from collections import Counter
from contextlib import suppress

import zmq

_CHANGES = {b"\x01": 1, b"\x00": -1}  # the first byte of a subscription message (RFC 37/ZMTP)
#: subscriptions, and their ends, of a subscriber over one connection -> the connection is closed:
#: `subscribers_disconnected`
MOST_CHANGES = 256
_MOST_UNSETTLED = 1024  # the same while messages of those who left may be among them
_NOBODY = -1


class Subscriptions:
    """The number of subscriptions by topic.

    A subscriber that sends more than MOST_CHANGES messages over one connection is disconnected, which ends its
    subscriptions. `disconnected` counts such connections.

    A message names a descriptor alone, which may belong to another connection by now. The count of a connection
    therefore begins once all is read that had arrived when it was first seen.
    """

    def __init__(self) -> None:
        self.disconnected = 0
        self._by_topic: Counter[bytes] = Counter()
        self._sent: dict[int, tuple[int, int]] = {}  # by descriptor: the inode of its connection, and its messages
        self._unsettled = set[int]()  # descriptors of connections whose counts have not begun

    def __getitem__(self, topic: bytes) -> int:
        return self._by_topic[topic]

    def count(self, message: zmq.Frame) -> None:
        """Count a message of a subscriber, or one that the bus sends for a subscriber that has left."""
        change, topic = message.bytes[:1], message.bytes[1:]
        if change in _CHANGES:
            self._by_topic[topic] += _CHANGES[change]
            if self._by_topic[topic] <= 0:
                del self._by_topic[topic]
        descriptor = _descriptor(message)
        if descriptor != _NOBODY:
            with suppress(OSError):  # the connection has ended
                self._limit(descriptor)

    def settle(self) -> None:
        """Begin to count the messages of new connections: no older message is left."""
        for descriptor in self._unsettled:
            self._sent[descriptor] = self._sent[descriptor][0], 0
        self._unsettled.clear()

    def _limit(self, descriptor: int) -> None:
        connection = os.fstat(descriptor).st_ino
        known, sent = self._sent.get(descriptor, (0, 0))
        if known != connection:
            self._unsettled.add(descriptor)
            sent = 0
        self._sent[descriptor] = connection, sent + 1
        most = _MOST_UNSETTLED if descriptor in self._unsettled else MOST_CHANGES
        if sent == most:
            _disconnect(descriptor, connection)
            self.disconnected += 1


def _descriptor(message: zmq.Frame) -> int:
    """Return the descriptor of the connection that a message came from, or _NOBODY."""
    try:
        return int(message.get(zmq.SRCFD))
    except zmq.ZMQError:
        return _NOBODY


def _disconnect(descriptor: int, inode: int) -> None:
    """End what a connection receives, if it still has the descriptor: the bus then closes it, as if it had left.

    Its other direction stays: libzmq 4.3.5 does not survive every hang-up of a connection that it does not read.
    """
    with socket.fromfd(descriptor, socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        if os.fstat(connection.fileno()).st_ino == inode:
            connection.shutdown(socket.SHUT_RD)
