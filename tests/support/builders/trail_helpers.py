"""Helpers for trail tests: feed an Image with queries and answers of named clients; print a trail compactly."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import dns.message

from builders.dns_builders import response_to, t
from dnstrail.captured import Flow, Process
from dnstrail.connection import Connection
from dnstrail.image import Bounds, Circumstances, Image
from dnstrail.image.trails.trail import Trail, Trails

CLIENT, SERVER = "10.0.0.2", "10.0.0.53"


def packed(text: str) -> bytes:
    """Return an address as bytes; "" gives b""."""
    return ip_address(text).packed if text else b""


def to_server(client: str = CLIENT, server: str = SERVER, **more: Any) -> Flow:
    """Return the flow of a query."""
    return Flow(packed(client), 40000, packed(server), 53, **more)


def to_client(client: str = CLIENT, server: str = SERVER, **more: Any) -> Flow:
    """Return the flow of a response."""
    return Flow(packed(server), 53, packed(client), 40000, **more)


def query(name: str) -> bytes:
    """Return a query with the id of `response_to`."""
    return dns.message.make_query(name, "A", id=1).to_wire()


class Asked:
    """An image with methods to feed it; times are seconds after T."""

    def __init__(self, **bounds: Any) -> None:
        self.image = Image(Bounds(**bounds))

    def query(self, after: float, name: str, flow: Flow | None = None, process: Process | None = None) -> Asked:
        """Feed a query."""
        self.image.feed(t(after), query(name), Circumstances(flow or to_server(), process))
        return self

    def answer(self, after: float, question: str, *lines: str, ttl: int = 300, **circumstances: Any) -> Asked:
        """Feed an answer; without records it is "A 1.1.1.1" of the question."""
        records = lines or (f"{question} A 1.1.1.1",)
        circumstances.setdefault("flow", to_client())
        self.image.feed(t(after), response_to(question, *records, ttl=ttl), Circumstances(**circumstances))
        return self

    def trails(self, key: str, after: float | None = None, **connection: Any) -> Trails:
        """Return the trails of a key, which must have some."""
        found = self.find(key, after, **connection)
        assert found is not None
        return found

    def find(self, key: str, after: float | None = None, **connection: Any) -> Trails | None:
        """Return the trails of a key, if it has any."""
        now = None if after is None else t(after)
        return self.image.trails(key, Connection(**connection), now=now)

    def roots(self, key: str = "1.1.1.1", after: float | None = None, **connection: Any) -> str:
        """Return the questions of the trails of a key, the likeliest first."""
        return " ".join(trail.dns_root for trail in self.trails(key, after, **connection).trails)


def in_words(trail: Trail) -> str:
    """Return a trail as "root: KIND target, KIND target (state)"."""
    steps = ", ".join(f"{step.kind} {step.target}" for step in trail.steps)
    return f"{trail.dns_root}: {steps} ({trail.state})" if steps else f"{trail.dns_root}: ({trail.state})"
