"""`dnstrail run` where the command has another resolver than the host: learned lists, and reasons of refusals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.namespaces import SENDER, SERVER, Hosts, dnsmasq, hosts, live_or_skip
from live.pipelines import pipeline
from live.run_commands import RUN, WEB_SERVER, asking_folder
from live.server_process import serving

NAME = "one.google.com"
ASKS = (sys.executable, "asks.py", NAME)
# A program that asks a server of its own choice, and connects to the address that it is given.
OWN_SERVER = ("sh", "-c", f"exec {sys.executable} asks.py $(dig +short @{SENDER} {NAME})")


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Yield two hosts with a web server, and a second DNS server that no resolv.conf names."""
    live_or_skip("dig")
    with (
        hosts() as both,
        dnsmasq(both.server, SENDER),
        asking_folder() as made,
        serving(both, made / "seen", *WEB_SERVER),
        pipeline("--output", "json") as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("DNSTRAIL_RUN_DIR", str(running.folder))
        patch.setenv("SUDO_UID", "")
        yield both


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder with the script of the client."""
    with asking_folder() as made:
        yield made


def run(folder: Path, *words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command under `dnstrail run`, with its report in r.json."""
    command = [*before, *RUN, "--report", "r.json", "--quiet", *words]
    return subprocess.run(
        command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, timeout=240, check=False
    )


def test_a_learned_list_is_enforced_in_another_network_namespace(network, folder):
    """A command that `ip netns exec` leads to another resolv.conf reaches all that its learned list contains."""
    command = ("--", "ip", "netns", "exec", network.client, *ASKS)
    learning = run(folder, "--allow-learn", "learned", "--fail-on", "foreign-dns", *command)
    assert learning.returncode == 0, learning.stderr
    assert (folder / "learned").read_text().splitlines()[1:] == [f"{NAME}:80"]
    enforced = run(folder, "--allow", "learned", "--enforce", *command)
    report = json.loads((folder / "r.json").read_text())
    assert (enforced.returncode, report["not_allowed"]) == (0, []), enforced.stderr
    assert (report["foreign_dns"], report["enforcement"]) == ([], [])


def test_a_learned_list_has_the_resolver_of_a_program(network, folder):
    """A server that the command asks by its own choice is a `resolver` of the learned list, and its answers count."""
    within = ("ip", "netns", "exec", network.client)
    learning = run(folder, "--allow-learn", "learned", "--", *OWN_SERVER, before=within)
    assert learning.returncode == 0, learning.stderr
    assert (folder / "learned").read_text().splitlines()[1:] == [f"resolver {SENDER}", f"{NAME}:80"]
    enforced = run(folder, "--allow", "learned", "--enforce", "--", *OWN_SERVER, before=within)
    assert enforced.returncode == 0, enforced.stderr + (folder / "r.json").read_text()


def test_the_reason_of_a_refusal_is_its_rule(network, folder):
    """A refusal of a listed name states that its answer came from no resolver, and how to make the server one."""
    (folder / "allowed").write_text(f"{NAME}:80\n{SENDER}:53\n")
    within = ("ip", "netns", "exec", network.client)
    done = run(folder, "--allow", "allowed", "--enforce", "--", *OWN_SERVER, before=within)
    assert done.returncode == 10, done.stderr
    [reason] = json.loads((folder / "r.json").read_text())["not_allowed"]
    assert reason == (
        f"tried to reach {NAME} ({SERVER}:80/tcp): {NAME} is in the list, but no answer of a resolver led to this "
        f"address. The command asked {SENDER}: the entry `resolver {SENDER}` makes its answers count"
    )


def test_a_resolver_of_another_namespace_is_refused(network, folder):
    """A resolver that only another network namespace has is refused, and the reason names the entry for it."""
    (folder / "allowed").write_text(f"{NAME}:80\n")
    configured = Path("/etc/netns") / network.server
    configured.mkdir()
    try:
        (configured / "resolv.conf").write_text(f"nameserver {SENDER}\n")
        asks = ("dig", "+tries=1", "+timeout=1", f"@{SENDER}", NAME)
        within = ("ip", "netns", "exec", network.client)
        done = run(folder, "--allow", "allowed", "--enforce", "--", *asks, before=within)
    finally:
        shutil.rmtree(configured)
    assert done.returncode == 10, done.stderr
    reason = f"{SENDER} is no configured resolver, and the list has no entry `resolver {SENDER}`"
    assert f"tried to reach {SENDER}:53/udp: {reason}" in json.loads((folder / "r.json").read_text())["not_allowed"]
