"""The files for several hosts work as they stand: the commands of units, containers and pods, between two networks."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from live.namespaces import CLIENT, SERVER, Hosts, hosts, live_or_skip
from live.processes import dnstrail, run_dir, text_of, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
WORKERS = "probe", "cache", "signatures"
USER = "60706:60706"  # of the workers, except the probe of a file
PLACES = {"192.0.2.1": SERVER, "192.0.2.9": CLIENT}  # the addresses of the files that an operator edits


def of_units() -> dict[str, list[str]]:
    """Return the arguments of each worker in the drop-ins of systemd."""
    found = {}
    for worker in WORKERS:
        parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters="=")
        parser.read(DEPLOY / f"systemd/hosts/dnstrail-{worker}.conf")
        found[worker] = parser["Service"]["ExecStart"].split()[1:]
    return found


def of_containers() -> dict[str, list[str]]:
    """Return the arguments of each worker in the compose file."""
    services = yaml.safe_load((DEPLOY / "hosts.yml").read_text())["services"]
    return {worker: services[worker]["command"] for worker in WORKERS}


def of_pods() -> dict[str, list[str]]:
    """Return the arguments of each worker in the patches of the pods."""
    patches = [yaml.safe_load(path.read_text()) for path in (DEPLOY / "kubernetes/hosts").glob("*.yaml")]
    containers = [one for patch in patches for one in patch["spec"]["template"]["spec"]["containers"]]
    return {container["name"]: container["args"] for container in containers}


@pytest.fixture
def two() -> Iterator[Hosts]:
    """Make two hosts."""
    live_or_skip()
    with hosts() as both:
        yield both


def in_folder(folder: Path, arguments: list[str]) -> list[str]:
    """Return arguments with the sources, addresses and folders of the test."""
    line = "\0".join(arguments).replace("capture\0ebpf", "capture\0demo").replace("capture=ebpf", "capture=demo")
    for address, place in PLACES.items():
        line = line.replace(address, place)
    line = re.sub(r"--metrics=[^\0]+", "--metrics=0", line)  # containers have addresses of their own
    line = re.sub(r"(?<=[=/\0])/(run|var|etc)/", rf"{folder}/\1/", line)
    words = line.split("\0")
    return [word for number, word in enumerate(words) if "--subscribers" not in words[max(number - 1, 0) : number + 1]]


@pytest.mark.parametrize("read", [of_units, of_containers, of_pods])
def test_workers_of_two_hosts_find_each_other(two: Hosts, read: Callable[[], dict[str, list[str]]]) -> None:
    """A probe of one host feeds cache and signatures of another one, once their keys are allowed."""
    with run_dir() as folder, ExitStack() as stack:
        folder.chmod(0o755)
        for place in ("etc/dnstrail/signatures", "var/lib/dnstrail", "var/lib/dnstrail-signatures", "run"):
            (folder / place).mkdir(parents=True)
        for state in (folder / "var/lib").iterdir():
            state.chmod(0o777)
        keys = {
            worker: dnstrail("keys", "new", DNSTRAIL_KEYS=str(folder / worker)).stdout.strip() for worker in WORKERS
        }

        def allow(worker: str, *arguments: str) -> None:
            assert dnstrail("keys", "allow", *arguments, DNSTRAIL_KEYS=str(folder / worker)).returncode == 0

        for client in ("cache", "signatures"):
            allow("probe", client, keys[client])
            allow(client, "--server", SERVER, "--host", "alpha", keys["probe"])
        allow("signatures", "--server", CLIENT, "--host", "central", keys["cache"])
        allow("cache", "signatures", keys["signatures"])

        def start(host: str, worker: str, arguments: list[str], *more: str) -> Path:
            log = folder / f"{worker}.log"
            environment = [f"DNSTRAIL_KEYS={folder / worker}", f"DNSTRAIL_RUN_DIR={folder}/run/dnstrail"]
            command = ["ip", "netns", "exec", host, "env", *environment, sys.executable, "-m", "dnstrail_cli"]
            with log.open("w") as out:
                process = subprocess.Popen([*command, *arguments, *more], stdout=out, stderr=out)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return log

        commands = {worker: in_folder(folder, arguments) for worker, arguments in read().items()}
        commands["cache"] = [
            word.replace("/dnstrail-probe/", "/no-probe/") for word in commands["cache"]
        ]  # it is remote
        sink = f"ipc://{folder}/run/dnstrail-findings/findings.sock"
        log = start(two.client, "findings", ["findings", "--cache", "none", "--receive", sink], "--user", USER)
        start(two.client, "cache", commands["cache"], "--user", USER)
        start(two.client, "signatures", commands["signatures"], "--user", USER)
        start(two.server, "probe", commands["probe"], "--subscribers", "2")

        def hosts_of_findings() -> set[str]:
            lines = text_of(log).splitlines(keepends=True)
            return {json.loads(line)["hostName"] for line in lines if '"WATCHED_NAME"' in line and line.endswith("\n")}

        try:
            wait_until(hosts_of_findings, "a finding")
        except AssertionError:
            pytest.fail("\n".join(f"{path.name}: {text_of(path)}" for path in folder.glob("*.log")))
        assert hosts_of_findings() == {"alpha"}
