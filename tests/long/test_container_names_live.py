from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from dnstrail.kernel.cgroups import find_cgroup2
from live.api_server import PODS, REPLICA_SETS, api_server, owned, owner
from live.containerd import CONTAINERD_TOOLS, containerd
from live.ebpf_source import cgroup, inside
from live.namespaces import live_or_skip
from live.pipelines import Run, askers_below, check_container_names, counted, pipeline
from live.podman import IMAGE, PODMAN_TOOLS, podman
from live.podman_of_user import USER_TOOLS, podman_of_user
from live.processes import run_dir, wait_until

pytestmark = pytest.mark.timeout(600)
COUNT = int(os.environ.get("DNSTRAIL_SHORT_CONTAINERS", "20"))
DEPLOYMENT = "k8s.deployment.name"
FACTS = ("--capture", "ebpf", "--output", "json", "--events", "dns_transaction")


# A first process of its own, whose root is this one: the root of process 1 has the users and their homes.
OWN_HOST = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.fixture
def labels(tmp_path: Path) -> tuple[str, str]:
    """Return the option for settings by which the probe reads the label `app`."""
    (tmp_path / "settings.toml").write_text('[probe]\nlabel = ["app"]\n')
    return "--config", str(tmp_path / "settings.toml")


def check_labels(run: Run, domain: str) -> None:
    """Compare the labels in the facts below a domain with the numbers of their names."""
    facts = [fact for fact in run.containing(f'.{domain}"') if fact["container"].get("name")]
    asked = [next(one["value"] for one in fact["args"] if one["name"] == "name") for fact in facts]
    stated = dict(zip(asked, (fact["container"].get("labels") for fact in facts), strict=True))
    expected = {f"c{number}.{domain}": {"app": f"app-{number}"} for number in range(COUNT)}
    assert stated == {name: expected[name] for name in stated}


def check_owners(run: Run, domain: str) -> None:
    """Compare the Deployments in the facts below a domain; an owner that comes too late is missing."""
    facts = [fact for fact in run.containing(f'.{domain}"') if fact["container"].get("name")]
    asked = [next(one["value"] for one in fact["args"] if one["name"] == "name") for fact in facts]
    stated = {name: fact["container"]["labels"] for name, fact in zip(asked, facts, strict=True)}
    found = {name: labels.pop(DEPLOYMENT) for name, labels in stated.items() if DEPLOYMENT in labels}
    expected = {f"c{number}.{domain}": number for number in range(COUNT)}
    assert stated == {name: {"app": f"app-{expected[name]}"} for name in stated}
    assert found == {name: f"web-{expected[name] % 3}" for name in found}
    assert len(found) >= COUNT // 4


def test_short_containers_of_podman_have_names(monkeypatch, labels):
    """Each container of Podman that asks one name and ends has its own name, image and label in the fact."""
    live_or_skip(*PODMAN_TOOLS)
    with podman() as tool:
        monkeypatch.setenv("CONTAINERS_STORAGE_CONF", tool.conf)
        with pipeline(*FACTS, *labels) as run:
            for number in range(COUNT):
                tool.resolve(f"web-{number}", f"c{number}.podman.test", "--label", f"app=app-{number}")
            check_container_names(run, "podman.test", "web-{}", IMAGE, COUNT)
            check_labels(run, "podman.test")


def test_short_containers_of_a_user_have_names_with_the_user(labels):
    """Each container that a user runs without root has its own name behind the user's, and its label."""
    live_or_skip(*USER_TOOLS)
    with podman_of_user() as tool, pipeline(*FACTS, *labels, within=OWN_HOST) as run:
        for number in range(COUNT):
            tool.resolve(f"web-{number}", f"c{number}.user.test", "--label", f"app=app-{number}")
        check_container_names(run, "user.test", f"{tool.user}/web-{{}}", IMAGE, COUNT)
        check_labels(run, "user.test")
        [fact] = run.containing("c0.user.test")
        assert fact["containerId"].startswith(f"{tool.user}/")


def test_short_containers_of_pods_have_names_and_owners(monkeypatch, tmp_path):
    """Each container of a pod that asks one name and ends has its name, its pod's, image, label and owner in the fact.

    The owner is the Deployment that the API server states, and not that of a label.
    """
    live_or_skip(*CONTAINERD_TOOLS)
    (tmp_path / "settings.toml").write_text(f'[probe]\nlabel = ["app", "{DEPLOYMENT}"]\n')
    with run_dir() as account, api_server(account) as server, containerd() as daemon:
        for name, value in {**server.variables, "CONTAINER_RUNTIME_ENDPOINT": f"unix://{daemon.socket}"}.items():
            monkeypatch.setenv(name, value)
        for number in range(3):
            server.objects[f"{REPLICA_SETS}set-{number}"] = owned(f"set-{number}", owner("Deployment", f"web-{number}"))
        with pipeline(*FACTS, "--config", str(tmp_path / "settings.toml")) as run:
            for number in range(COUNT):
                server.objects[f"{PODS}web-{number}"] = owned(f"web-{number}", owner("ReplicaSet", f"set-{number % 3}"))
                pod = daemon.make_pod(f"web-{number}", "shop", app=f"app-{number}", **{DEPLOYMENT: "forged"})
                daemon.resolve(pod, "nginx", f"c{number}.pods.test")
            check_container_names(run, "pods.test", "nginx.web-{}.shop", IMAGE, COUNT)
            check_owners(run, "pods.test")
        assert {*server.asked} <= server.objects.keys()


def test_a_runtime_that_hangs_costs_names_alone(monkeypatch):
    """While containerd is stopped, a container has its id and facts, and no name; later pods have names again."""
    live_or_skip(*CONTAINERD_TOOLS)
    container = os.urandom(32).hex()
    with containerd() as daemon:
        monkeypatch.setenv("CONTAINER_RUNTIME_ENDPOINT", f"unix://{daemon.socket}")
        with pipeline(*FACTS) as run:
            daemon.process.send_signal(signal.SIGSTOP)
            try:
                (Path(str(find_cgroup2())) / "kubepods").mkdir(exist_ok=True)  # `daemon` removes it
                with cgroup("kubepods/pod-late"), cgroup(f"kubepods/pod-late/{container}") as folder:
                    subprocess.run(inside(folder, *daemon.resolver, "late.stopped.test"), check=True)
                    # A cgroup that is gone before the probe looks at the folders above it is no container of root.
                    wait_until(lambda: askers_below(run, "stopped.test"), "the fact")
                wait_until(lambda: counted(run, "container_names_late"), "the name that is late")
                wait_until(lambda: counted(run, "container_names_failed"), "the request that failed")
            finally:
                daemon.process.send_signal(signal.SIGCONT)
            assert askers_below(run, "stopped.test") == {"late.stopped.test": {("", "")}}
            [fact] = run.containing("late.stopped.test")
            assert fact["containerId"] == container
            pods: list[tuple[str, bytes]] = []

            def is_named() -> bool:
                pods.append(daemon.make_pod(f"web-{len(pods)}", "shop"))
                daemon.resolve(pods[-1], "nginx", "later.again.test")
                named = askers_below(run, "again.test").get("later.again.test", set())
                return (f"nginx.web-{len(pods) - 1}.shop", IMAGE) in named

            wait_until(is_named, "a name after the stop")
