"""The subjects of detections: actor and program of an event, the names above a name, inner and public addresses.

An actor is the container, process or client by which the workers of a group share events.
"""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

from dnstrail.captured import SERVER, Captured, Flow, Process
from dnstrail.dns import is_response
from dnstrail.events import Event

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


def party_of(event: Event) -> str:
    """Return the program of an event, with its host and container; without a process, its client.

    All processes of one program are one party: a script that starts a client for each question is seen as a whole. At
    a server the process answers for others, so that the client is the party.
    """
    captured = event.captured
    process = captured.process
    if process is None or not process.pid or event.role == SERVER:
        return actor_of_client(captured.flow, captured.payload, event.host_name)
    program = process.path or process.name or str(process.pid)
    return f"{event.host_name} {process.container_id} {program}"


def covered_by(name: str, names: Container[str]) -> str | None:
    """Return the first of a name and the names above it that is among some names, or None. Escapes are not read."""
    while name:
        if name in names:
            return name
        name = name.partition(".")[2]
    return None


_INNER: Final = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "::/127",
            "fc00::/7",
            "fe80::/10",
        ),
    )
)


@lru_cache(maxsize=16384)
def is_inner(address: str) -> bool:
    """Return whether an address belongs to a host, a link or a site."""
    parsed = ip_address(address)
    return any(parsed in network for network in _INNER if network.version == parsed.version)


@lru_cache(maxsize=16384)
def is_public(address: str) -> bool:
    """Return whether an address can be reached over the internet, and names one host."""
    parsed = ip_address(address)
    return parsed.is_global and not parsed.is_multicast
