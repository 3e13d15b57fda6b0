"""Actors: the container, process or client by which the workers of a group share events."""

from __future__ import annotations

from dnstrail.captured import Captured, Flow, Process
from dnstrail.dns import is_response

NOBODY = ""  # the actor of an event without process and client


def actor_of(event: Captured, host: str) -> str:
    """Return the actor of an event on a host: its container, else its process, else its client."""
    if event.process is not None:
        return actor_of_process(event.process, host)
    return actor_of_client(event.flow, event.payload, host)


def actor_of_process(process: Process, host: str) -> str:
    """Return the container of a process, else the process itself."""
    return process.container_id or f"{host} {process.pid} {process.start_time}"


def actor_of_client(flow: Flow | None, payload: bytes, host: str) -> str:
    """Return the client as a host sees it: the destination of a response, and the source of everything else.

    A private address is another client on each host.
    """
    if flow is None:
        return NOBODY
    return f"{host} {(flow.destination if is_response(payload) else flow.source).hex()}"
