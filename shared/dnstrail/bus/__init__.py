"""The bus between workers: a small contract, and ZeroMQ as its implementation."""

from __future__ import annotations

from dnstrail.bus.contract import Bus, Endpoint, Publisher, Puller, Pusher, Requester, ServedRequest, Server, Subscriber
from dnstrail.bus.remote_host import RemoteHost
from dnstrail.bus.zeromq import ZmqBus

__all__ = [
    "Bus",
    "Endpoint",
    "Publisher",
    "Puller",
    "Pusher",
    "RemoteHost",
    "Requester",
    "ServedRequest",
    "Server",
    "Subscriber",
    "ZmqBus",
]
