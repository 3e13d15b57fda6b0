from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail.events import CLIENT, FORWARDER, SCHED_PROCESS_EXIT, SERVER, Captured
from dnstrail.wire import is_response
from docker_daemon import IMAGE, UPSTREAM, Daemon, docker_daemon, docker_or_skip
from namespaces import live_or_skip
from processes import wait_until
from watching import Watching, watching

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning"),  # bcc's own
]
EMBEDDED = "127.0.0.11"  # where Docker answers on networks that users made


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """A Docker daemon that only these tests use, with a network."""
    docker_or_skip()
    live_or_skip("gcc")
    with docker_daemon() as started:
        started.docker("network", "create", "dnstrail-net")
        try:
            yield started
        finally:
            started.docker("network", "rm", "dnstrail-net")


@pytest.fixture
def seen(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watching]:
    """The probe."""
    monkeypatch.setenv("DOCKER_HOST", daemon.host)
    with watching() as started:
        yield started


def of_client(seen: Watching, name: str, container: str) -> list[Captured]:
    """Question and answer at a container's end."""

    def found() -> list[Captured]:
        return [event for event in seen.about(name) if event.flow.role == CLIENT and event.process.name == "resolve"]

    seen.until(lambda: any(is_response(event.payload) for event in found()), f"the answer for {name}")
    assert {event.process.container_id for event in found()} == {container}
    assert {event.process.path for event in found()} == {"/resolve"}
    assert [event.flow.egress for event in found()] == [True, False]
    return found()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_container_that_asks_a_server_itself(daemon, seen, transport):
    """A question straight to a server has the container's id, its process, and the name and image that Docker tells."""
    name = f"straight-{transport}.test"
    options = ("--name", f"straight-{transport}")
    container = daemon.resolve(name, *options, server=UPSTREAM, transport=transport)
    found = of_client(seen, name, container)
    assert {(event.process.container_name, event.process.container_image) for event in found} <= {
        (f"straight-{transport}", IMAGE),
        ("", ""),
    }
    servers = [event for event in seen.about(name) if event.flow.role == SERVER]
    assert {(event.process.name, event.process.container_id) for event in servers} == {("dnsmasq", "")}


def test_name_and_image_of_a_container(daemon, seen):
    """Docker is asked for a container's name and image as soon as it is made, so that its events have them."""
    container = daemon.docker("create", "--name", "named", IMAGE, "/resolve", UPSTREAM, "53", "udp", "named.test")

    def names() -> set[tuple[str, str]]:
        ends = [event for event in seen.named(SCHED_PROCESS_EXIT) if event.process.container_id == container]
        return {(event.process.container_name, event.process.container_image) for event in ends}

    def started_again() -> bool:
        daemon.docker("start", "--attach", container)
        seen.look()
        return ("named", IMAGE) in names()

    wait_until(started_again, "an end with a name")
    assert names() <= {("named", IMAGE), ("", "")}
    daemon.docker("rm", container)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_container_behind_the_embedded_dns(daemon, seen, transport):
    """A question to Docker's own server, on a random port behind NAT, keeps its destination; Docker asks on for it."""
    name = f"embedded-{transport}.test"
    options = ("--network", "dnstrail-net", "--dns", UPSTREAM)
    container = daemon.resolve(name, *options, server=EMBEDDED, transport=transport)
    asked, answered = of_client(seen, name, container)
    assert asked.flow.original == (EMBEDDED, 53)
    assert asked.flow.destination_port != 53
    assert (answered.flow.source_text, answered.flow.source_port) == (EMBEDDED, 53)
    docker = [event for event in seen.about(name) if event.process and event.process.name == "dockerd"]
    assert docker
    assert {event.flow.role for event in docker} <= {CLIENT, FORWARDER}
    assert {Path(event.process.path).name for event in docker} == {"dockerd"}


def test_twenty_three_short_containers(daemon, seen):
    """Of containers that live for one question each, none is taken for another."""
    containers = [daemon.resolve(f"c{number}.test", server=UPSTREAM, transport="udp") for number in range(23)]
    for number, container in enumerate(containers):
        of_client(seen, f"c{number}.test", container)
    assert len(set(containers)) == 23
