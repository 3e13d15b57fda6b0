"""Joins the connections on the wire with the events of dnstrail, and with the jobs that caused them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from hosts import Host
from jobs import Job
from observer import Observed
from wire import Connection

_BEFORE, _AFTER = 100_000_000, 1_000_000  # ns: so long before its SYN an event comes at most, or after it (two clocks)
_SAME_PORT = 5_000_000_000  # ns: the same with its source port, which no other connection has so soon
_CLOSE = 100_000  # ns: most events come less before their SYN


@dataclass(frozen=True)
class Joined:
    """A connection with its event and its job, None where there is none.

    `meant` is the true name, "" if it is unknown. `exchangeable` states that another event could be the one of this
    connection: it has no source port, and the events are closer than two processors keep their order.
    """

    connection: Connection
    event: Observed | None
    job: Job | None
    exchangeable: bool = False

    @property
    def meant(self) -> str:
        """The name on the wire; of a connection that states none, the only name of its client."""
        if self.connection.name or self.job is None or len(self.job.names) > 1:
            return self.connection.name
        return self.job.names[0]


def join(connections: list[Connection], observed: list[Observed], jobs: list[Job], hosts: list[Host]) -> list[Joined]:
    """Join every connection.

    A connection belongs to the event with its source port if events have one; else to the oldest event of its host,
    address and port that is not joined yet.
    """
    by_address = {address: host for host in hosts for address in host.addresses}
    by_process = {job.process: job for job in jobs}
    waiting: dict[tuple[int, str, int], list[Observed]] = defaultdict(list)
    for event in sorted(observed, key=lambda one: one.stamp):
        waiting[event.mount_namespace, event.address, event.port].append(event)
    found = []
    for connection in sorted(connections, key=lambda one: one.opened):
        host = by_address[connection.source]
        events = waiting[host.mount_namespace, connection.address, connection.port]
        event = next((event for event in events if _fits(connection, event)), None)
        if event is None:
            found.append(Joined(connection, None, _by_name(connection, host, jobs)))
        else:
            close = any(_exchangeable(event, other) for other in events if other is not event)
            events.remove(event)
            job = by_process.get(event.process) or by_process.get(event.parent) or _by_name(connection, host, jobs)
            found.append(Joined(connection, event, job, close))
    return found


def _fits(connection: Connection, event: Observed) -> bool:
    ahead = connection.opened - event.stamp
    if event.source_port:
        return event.source_port == connection.source_port and abs(ahead) <= _SAME_PORT
    return -_AFTER <= ahead <= _BEFORE


def _exchangeable(event: Observed, other: Observed) -> bool:
    return not event.source_port and abs(event.stamp - other.stamp) < _CLOSE


def _by_name(connection: Connection, host: Host, jobs: list[Job]) -> Job | None:
    """Return the job that fetches from the name, and ran on the host when the connection was opened."""
    fetches = (job for job in jobs if job.host == host.number - 1 and connection.name in job.names)
    return next((job for job in fetches if job.started <= connection.opened <= job.ended), None)
