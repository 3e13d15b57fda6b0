"""One measurement: the made-up internet and the client hosts, the jobs, and what was seen of them."""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import CLIENTS, Client, missing
from compiled_clients import build
from course import Course, following
from hosts import Host, client_hosts, server
from internet import Site, draw_sites
from jobs import Job, draw_jobs
from join import Joined, join
from live.processes import wait_until
from observer import End, observing
from resolvers import RESOLVERS
from servers import PORTS, servers
from steady import steady_jobs
from traffic import AT_ONCE, LONGEST, run_jobs
from wire import watching
from workers import workers


class MissingError(Exception):
    """Something is missing on this host without which nothing can be measured."""


@dataclass(frozen=True)
class Measured:
    """The connections of one measurement. `left_out` names what could not run; `losses` are dnstrail's.

    `said` has the first name of a connection once its client has said one, where dnstrail reads server names.
    """

    joined: list[Joined]
    said: dict[End, str]
    killed: int
    losses: dict[str, Any]
    course: Course
    resolvers: list[str]
    left_out: list[str]


def measure(given: argparse.Namespace) -> Measured:
    """Run everything to its end.

    Raises:
        MissingError: the server, or every client or resolver, is missing.
    """
    with _folder() as folder, ExitStack() as stack:
        sites = draw_sites(given.seed, given.names, given.shared)
        gateway = stack.enter_context(server(folder))
        resolvers = [name for name in given.resolver if gateway.has(RESOLVERS[name][0])]
        asked = [client for client in CLIENTS if client.name in given.clients]
        absent = missing(asked, gateway)
        chosen = [client for client in asked if client.name not in absent]
        if not (gateway.has("nginx") and gateway.has("unbound") and chosen and resolvers):
            raise MissingError("nginx, unbound, or every client or resolver is missing: deploy/setup-accuracy.sh")
        stack.enter_context(servers(gateway, folder, sites))
        hosts = stack.enter_context(client_hosts(folder, gateway, len(resolvers)))
        for host, name in zip(hosts, resolvers, strict=True):
            stack.enter_context(RESOLVERS[name][1](host, folder))
        build(chosen, gateway, folder)
        jobs = _jobs(given, chosen, sites, len(hosts))
        left_out = sorted(absent | {*given.resolver} - {*resolvers})
        return Measured(*_run(jobs, hosts, folder, given), resolvers, left_out)


def _jobs(given: argparse.Namespace, clients: list[Client], sites: list[Site], hosts: int) -> list[Job]:
    if given.minutes:
        return steady_jobs(given.seed, sites, hosts, given.clients_at_once, given.rate, 60 * given.minutes)
    return draw_jobs(given.seed, clients, sites, hosts, given.connections, given.rate)


def _run(
    jobs: list[Job], hosts: list[Host], folder: Path, given: argparse.Namespace
) -> tuple[list[Joined], dict[End, str], int, dict[str, Any], Course]:
    at_once = given.clients_at_once if given.minutes else AT_ONCE
    restart = 15 * given.minutes if given.restart_cache else 0.0  # a quarter of the time, in seconds
    with (
        workers(given.capture, server_names=given.server_names) as running,
        observing(PORTS, running.folder) as observer,
        watching(hosts) as wire,
        following(running, restart) as course,
    ):
        killed = run_jobs(jobs, hosts, folder, at_once=at_once, longest=LONGEST + 60 * given.minutes)
        for _ in range(2):  # a turn may lack what happened while it was closed; the next one contains it
            now = time.time_ns()
            wait_until(lambda now=now: observer.reached > now, "the events of all connections")
        joined = join(wire.connections, observer.observed, jobs, hosts)
        return joined, observer.said, killed, observer.losses(), course


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="dt-accuracy-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
