"""The compose file as an operator runs it: built, brought up, used, damaged, restarted, taken down."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from live.docker_daemon import docker_or_skip
from live.namespaces import live_or_skip
from live.processes import wait_until
from live.rights import rights_of, show
from live.stack import ADDRESS, HOST, PATIENCE, SENDER, WATCHED, WORKERS, Stack, stack
from live.stack_images import BUILD

pytestmark = pytest.mark.timeout(2 * BUILD)
USERS = {"probe": 0, "cache": 990, "signatures": 991, "findings": 992, "history": 993}
KEPT = {"CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"}
MANY = 1000  # lookups
ONCE = ["ANSWERED", "WATCHED_NAME"]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the stack with three signature workers."""
    docker_or_skip()
    live_or_skip()
    with stack(tmp_path_factory.mktemp("stack")) as run:
        try:
            wait_until(run.works, "the stack works", PATIENCE)
            wait_until(settles(run, "begin"), "single findings", PATIENCE)
        except AssertionError:
            pytest.fail(state_of(run))
        yield run


def state_of(up: Stack) -> str:
    """Return what the containers are, what they logged last, and what the cache counts."""
    return "\n".join((up.compose("ps", "--all"), up.compose("logs", "--tail", "5"), up.ask_cache("stats")))


def reports(up: Stack, name: str) -> list[str]:
    """Return the events of the findings about a name."""
    return sorted(line["eventName"] for line in up.about(name))


def name_of(finding: dict[str, Any]) -> str:
    """Return the name in the question of a finding."""
    args = {arg["name"]: arg["value"] for arg in finding["args"]}
    return str(args.get("name") or args["dns_root"])


def resolve(up: Stack, label: str) -> str:
    """Resolve a new watched name; return it once the cache and the signatures have reported it."""
    name = f"{label}.{WATCHED}"
    up.resolve(name)
    wait_until(lambda: len(reports(up, name)) >= len(ONCE), f"findings about {name}", PATIENCE)
    assert reports(up, name) == ONCE
    assert ADDRESS in up.ask_cache("get", name)
    return name


def settles(up: Stack, label: str) -> Callable[[], bool]:
    """Return a condition that resolves a further name, and is true once the two names before it are reported once.

    While members of a group learn of each other, several of them handle an event.
    """
    names: list[str] = []

    def settled() -> bool:
        names.append(f"{label}-{len(names)}.{WATCHED}")
        up.resolve(names[-1])
        return len(names) > 2 and all(reports(up, name) == ONCE for name in names[-3:-1])

    return settled


def test_a_name_in_a_container_is_an_event_a_lookup_and_a_finding(up: Stack) -> None:
    """A name that a container resolves is found in the cache, and reported once by each signature."""
    name = resolve(up, "first")
    client = up.compose("ps", "--quiet", "client")
    assert {line["containerId"] for line in up.about(name)} == {client}


def test_each_of_many_lookups_is_reported_once(up: Stack) -> None:
    """Each of 1,000 lookups of a container behind Docker's resolver is one finding of each signature."""
    up.compose(
        "exec", "-T", "client", "sh", "-c", f"for i in $(seq {MANY}); do getent ahostsv4 $i.many.{WATCHED}; done"
    )
    wanted = {(event, f"{number}.many.{WATCHED}"): 1 for event in ONCE for number in range(1, MANY + 1)}

    def found() -> Counter[tuple[str, str]]:
        return Counter((line["eventName"], name_of(line)) for line in up.about(f".many.{WATCHED}"))

    try:
        wait_until(lambda: found().total() >= len(wanted), "all findings", PATIENCE)
    except AssertionError:
        pytest.fail(f"missing: {sorted(wanted.keys() - found())}\n{state_of(up)}")
    resolve(up, "last")
    assert found() == wanted


def test_events_name_the_container(up: Stack) -> None:
    """With the socket of Docker, events carry name and image of the container, once Docker has replied to the probe."""
    names = (resolve(up, f"named-{number}") for number in count())
    [client] = up.containers("client")

    def named() -> bool:
        container = up.about(next(names))[0]["container"]
        return (container.get("name"), container.get("image")) == (client, "dnstrail")

    wait_until(named, "an event with the name of its container", PATIENCE)


def test_sizes(up: Stack) -> None:
    """The sizes of the images, and what the idle containers use, are printed."""
    for line in up.daemon.docker("image", "ls", "--format", "{{.Repository}} {{.Size}}").splitlines():
        sys.stdout.write(f"image {line}\n")
    usage = "{{.Name}} CPU {{.CPUPerc}} memory {{.MemUsage}}"
    sys.stdout.write(up.daemon.docker("stats", "--no-stream", "--format", usage) + "\n")


def test_only_the_container_of_the_probe_has_rights(up: Stack) -> None:
    """All workers but the probe are users without capabilities, and no container can get further rights."""
    found = {name: rights_of(process) for name, process in up.containers(*USERS).items()}
    show(found)
    assert len(found) == len(USERS) - 1 + WORKERS
    for name, held in found.items():
        service = name.split("-")[-2]
        assert {uid for rights in held for uid in rights.uids} == {USERS[service]}
        assert service == "probe" or all(rights.none for rights in held)
        assert {one for rights in held for one in rights.capabilities} == (KEPT if service == "probe" else set())
        assert all(rights.no_new_privileges and rights.groups <= {990} for rights in held)


def test_each_worker_comes_back(up: Stack) -> None:
    """After the kill of any worker the stack works again: a new name is found, and reported once."""
    for number, container in enumerate(sorted(up.containers(*USERS))):
        up.kill(container)
        wait_until(up.works, f"the stack works without the first {container}", PATIENCE)
        wait_until(settles(up, f"back-{number}"), f"single findings after the kill of {container}", PATIENCE)
        resolve(up, f"killed-{number}")


def test_a_silent_probe_is_unhealthy(up: Stack) -> None:
    """The container of the cache is unhealthy while the probe stands still, and healthy again afterwards."""
    up.compose("pause", "probe")
    try:
        wait_until(lambda: up.health() == "unhealthy", "an unhealthy cache", PATIENCE)
    finally:
        up.compose("unpause", "probe")
    wait_until(lambda: up.health() == "healthy", "a healthy cache", PATIENCE)


def test_restart_of_the_cache_keeps_its_names(up: Stack) -> None:
    """A name that was resolved before `compose restart cache` is found afterwards, without a further event about it."""
    name = resolve(up, "kept")
    up.compose("restart", "cache")
    wait_until(up.works, "the cache works again", PATIENCE)
    assert ADDRESS in up.ask_cache("get", name)


def test_a_host_sends_to_the_fleet(up: Stack) -> None:
    """With its invitation, the host of the stack sends what it resolved, and a store of the fleet knows it."""
    up.compose("--profile", "fleet", "up", "--detach")
    name = resolve(up, "fleet")

    def known() -> bool:
        done = up.compose("exec", "-T", "store", "sh", "-c", f"dnstrail fleet get {name} || true")
        return HOST in done and ADDRESS in done

    try:
        wait_until(known, "the store", PATIENCE)
    except AssertionError:
        pytest.fail(up.compose("--profile", "fleet", "logs", "--tail", "5", "fleet-send", "store", "engine"))
    [sender] = up.containers("fleet-send").values()
    assert {uid for rights in rights_of(sender) for uid in rights.uids} == {SENDER}


def test_the_profile_of_metrics_is_valid(up: Stack) -> None:
    """Compose accepts the file with every profile. No test runs Prometheus and Grafana from their images."""
    services = up.compose("--profile", "metrics", "config", "--services").split()
    assert {"prometheus", "grafana"} < set(services)
