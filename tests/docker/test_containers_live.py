from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail.bus.ipc import lookups_address
from dnstrail.captured import ASKER_SEEN, CLIENT, FORWARDER, SERVER, Captured
from dnstrail.dns import is_response
from dnstrail.events import SCHED_PROCESS_EXIT
from dnstrail.kernel.cgroups import find_cgroup2
from dnstrail_probe.host.containers import GONE
from live.docker_daemon import IMAGE, LIBRARY_IMAGE, UPSTREAM, Daemon, docker_daemon, docker_or_skip
from live.ebpf_source import Watching, watching
from live.namespaces import live_or_skip
from live.pipelines import check_container_names, pipeline
from live.processes import wait_until
from live.workers import asker

pytestmark = [
    pytest.mark.timeout(180),
]
HIDDEN = "192.0.2.77"  # an address that appears in no packet
EMBEDDED = "127.0.0.11"  # Docker's own server on user-defined networks


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """Yield a Docker daemon that only these tests use, with a network."""
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
    """Yield the probe."""
    monkeypatch.setenv("DOCKER_HOST", daemon.host)
    with watching() as started:
        yield started


def of_client(seen: Watching, name: str, container: str) -> list[Captured]:
    """Return query and response at a container."""

    def found() -> list[Captured]:
        return [event for event in seen.about(name) if event.flow.role == CLIENT and event.process.name == "resolve"]

    seen.until(lambda: any(is_response(event.payload) for event in found()), f"the answer for {name}")
    assert {event.process.container_id for event in found()} == {container}
    assert {event.process.path for event in found()} == {"/resolve"}
    assert [event.flow.egress for event in found()] == [True, False]
    return found()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_container_that_asks_a_server_itself(daemon, seen, transport):
    """A query to a server has the container's id, process, name and image."""
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


@pytest.mark.skipif(find_cgroup2() != "/sys/fs/cgroup", reason="containers of this host do not see cgroup2")
def test_a_privileged_container_that_makes_a_cgroup(daemon, seen):
    """A cgroup that a --privileged container makes has the container as its owner, like the container's own cgroup."""
    command = (IMAGE, "/resolve", UPSTREAM, "53", "udp")
    made = ("/sys/fs/cgroup/mine",)
    container = daemon.docker("create", "--privileged", "--cgroupns=private", *command, "made.test", *made)
    daemon.docker("start", "--attach", container)
    daemon.docker("rm", container)
    [first, *_] = (event.process for event in of_client(seen, "made.test", container))
    assert first.owner not in (first.cgroup_id, GONE)
    assert seen.source._attribution.containers.of(first.owner) == container


def test_name_and_image_of_a_container(daemon, seen):
    """The name of a container is requested when it is created, so that its first events can have it."""
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
    """A query to Docker's own server, on a random port behind NAT, keeps its destination, and Docker forwards it."""
    name = f"embedded-{transport}.test"
    options = ("--network", "dnstrail-net", "--dns", UPSTREAM)
    container = daemon.resolve(name, *options, server=EMBEDDED, transport=transport)
    asked, answered = of_client(seen, name, container)
    assert asked.flow.original == (EMBEDDED, 53)
    assert asked.flow.destination_port != 53
    assert (answered.flow.source_text, answered.flow.source_port) == (EMBEDDED, 53)
    docker = [event for event in seen.about(name) if event.process and event.process.name == "dockerd"]
    assert [event.flow.role for event in docker] == [FORWARDER] * 2
    assert {Path(event.process.path).name for event in docker} == {"dockerd"}
    nearest = [event for event in seen.about(name) if not event.args.get(ASKER_SEEN)]
    assert nearest == [asked, answered]


def test_a_neighbour_that_repeats_a_question_is_an_asker(daemon, seen):
    """A process that asks what Docker has just received is no relay of the question: it is an asker of its own."""
    options = ("--network", "dnstrail-net", "--dns", UPSTREAM)
    daemon.resolve("repeated.test", *options, server=EMBEDDED, transport="udp")
    neighbour = daemon.resolve("repeated.test", server=UPSTREAM, transport="udp")

    def asked() -> list[Captured]:
        return [one for one in seen.about("repeated.test") if one.process.container_id == neighbour]

    seen.until(lambda: len(asked()) > 1, "question and answer of the neighbour")
    assert not any(event.args.get(ASKER_SEEN) for event in asked())


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_embedded_dns_asks_for_its_container(daemon, transport):
    """The transaction of Docker's own server names the transaction of the container for which it asks."""
    name = f"linked-{transport}.test"
    options = ("--network", "dnstrail-net", "--dns", UPSTREAM)
    with pipeline("--capture", "ebpf", "--output", "json", "--events", "dns_transaction") as run:
        daemon.resolve(name, *options, server=EMBEDDED, transport=transport)

        def found() -> list[dict]:
            rows = [{one["name"]: one["value"] for one in event["args"]} for event in run.named("dns_transaction")]
            return [row for row in rows if row["name"] == name]

        wait_until(lambda: len(found()) >= 2, f"the transactions of {name}")
        ids = {row["hop"]: row["id"] for row in found()}
        linked = {(row["hop"], row.get("for")) for row in found()}
        assert linked == {("client", None), ("forwarder", ids["client"])}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_first_answers_behind_the_embedded_dns_name_their_container(daemon, transport):
    """While the cache is in doubt after its start, the asker of an answer by Docker's own server is its container."""
    name = f"first-{transport}.test"
    options = ("--network", "dnstrail-net", "--dns", UPSTREAM)
    with pipeline("--capture", "ebpf", "--events", "WATCHED_NAME") as run, asker(lookups_address(run.folder)) as client:
        container = daemon.resolve(name, *options, server=EMBEDDED, transport=transport)

        def askers() -> set[tuple[str, str]]:
            known = client.ask("trail", key=name)
            trails = known["data"]["trails"] if known["ok"] else []
            return {(one["process_name"], one["container_id"]) for trail in trails for one in trail["asked"]}

        wait_until(lambda: len(askers()) > 1, f"the askers of {name}")
        assert askers() == {("resolve", container), ("dockerd", "")}


def test_twenty_three_short_containers(daemon, seen):
    """Each of 23 containers that send one query has its own id."""
    containers = []
    for number in range(23):
        containers.append(daemon.resolve(f"c{number}.test", server=UPSTREAM, transport="udp"))
        seen.look()  # the ring has no room for the events of a busy host in all of this time
    for number, container in enumerate(containers):
        of_client(seen, f"c{number}.test", container)
    assert len(set(containers)) == 23


def test_getaddrinfo_in_a_container_feeds_the_image(daemon):
    """A name from a container's own hosts file is in the image, with the container that resolved it.

    Each container has a new library and resolves at once, so the library must be watched before the program starts.
    """
    line = "--capture ebpf:getaddrinfo --output json --events net_packet_dns,sched_process_exit"
    options = ("--interactive", "--add-host", f"hidden.test:{HIDDEN}", "--network", "none")
    asked: list[str] = []
    with pipeline(*line.split()) as run, asker(lookups_address(run.folder)) as client:

        def events(name: str) -> list[dict]:
            found = [event for event in run.named(name) if event["containerId"] == asked[-1]]
            return [event for event in found if event["processName"] == "by-gcc"]

        def reported_at_once() -> bool:  # a busy host can be too late for one of them
            asked.append(daemon.docker("create", *options, LIBRARY_IMAGE, "/by-gcc", "hidden.test"))
            start = ["docker", "--host", daemon.host, "start", "--attach", "--interactive", asked[-1]]
            done = subprocess.run(start, input="\n", capture_output=True, text=True, timeout=60, check=True)
            assert done.stdout.split() == ["0", HIDDEN]
            wait_until(lambda: events("sched_process_exit"), "the end of the container")
            daemon.docker("rm", asked[-1])
            return bool(events("net_packet_dns"))

        wait_until(reported_at_once, "a call that is reported")
        wait_until(lambda: client.ask("get", key=HIDDEN)["ok"], "the name in the image")
        assert client.ask("get", key=HIDDEN)["data"]["dns_root"] == "hidden.test"
        trail = client.ask("trail", key=HIDDEN, container=asked[-1])["data"]
        assert trail["scope"] == "container"
        (one,) = trail["trails"][0]["asked"]
        assert (one["container_id"], one["process_name"], one["executable"]) == (asked[-1], "by-gcc", "/by-gcc")


def test_short_containers_have_their_names(daemon, monkeypatch):
    """Each of 20 containers that ask one name and end has its own name and image in the fact."""
    monkeypatch.setenv("DOCKER_HOST", daemon.host)
    count = int(os.environ.get("DNSTRAIL_SHORT_CONTAINERS", "20"))
    with pipeline("--capture", "ebpf", "--output", "json", "--events", "dns_transaction") as run:
        for number in range(count):
            daemon.resolve(f"c{number}.short.test", "--name", f"short-{number}", server=UPSTREAM, transport="udp")
        check_container_names(run, "short.test", "short-{}", IMAGE, count)


def test_labels_of_a_container(daemon, monkeypatch, tmp_path):
    """The labels that the settings name are in facts and replies; a value that is no text is left out and counted."""
    monkeypatch.setenv("DOCKER_HOST", daemon.host)
    settings = tmp_path / "settings.toml"
    settings.write_text('[probe]\nlabel = ["team", "app"]\n')
    labels = [f"--label={label}" for label in ("app=web-1", "team=a\nb", "other=x")]
    resolve = ("/resolve", UPSTREAM, "53", "udp", "labelled.test")
    container = daemon.docker("create", "--name", "labelled", *labels, IMAGE, *resolve)
    options = ("--config", str(settings), "--capture", "ebpf", "--output", "json", "--events", "dns_transaction")
    with pipeline(*options) as run, asker(lookups_address(run.folder)) as client:

        def stated() -> list[dict[str, object]]:
            facts = [fact["container"] for fact in run.containing('"labelled.test"') if fact["container"]]
            return [fact for fact in facts if "name" in fact]

        def is_named() -> bool:
            daemon.docker("start", "--attach", container)
            return bool(stated())

        wait_until(is_named, "a fact with a name")
        named = {"id": container, "name": "labelled", "image": IMAGE, "labels": {"app": "web-1"}}
        assert all(fact == named for fact in stated())

        def asked() -> dict[str, object]:
            daemon.docker("start", "--attach", container)
            trail = client.ask("trail", key="192.0.2.1", container=container)["data"]["trails"][0]
            return trail["asked"][0]

        wait_until(lambda: asked()["container_name"], "a question of the container with its name")
        assert asked()["container_labels"] == {"app": "web-1"}

        def left_out() -> int:
            return sum(probe.get("container_labels_left_out", 0) for probe in run.stats()["probes"].values())

        wait_until(lambda: left_out() == 1, "the label that was left out")
    daemon.docker("rm", container)
