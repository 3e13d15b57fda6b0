"""The party behind an event: the program that asks or connects, by which detections keep their state."""

from __future__ import annotations

from dnstrail.actor import actor_of_client
from dnstrail.captured import SERVER
from dnstrail.events import Event


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
