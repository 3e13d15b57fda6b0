"""`dnstrail run --enforce` with a learned list around builds with pip, apt, git and npm, against local mirrors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.enforced import watched
from live.mirrors import OUTPUTS, REFUSED_ADDRESS, SCRIPTS, builds, environment_of, make_client, make_mirrors, script_of
from live.namespaces import Hosts, hosts, live_or_skip
from live.processes import run_dir
from live.run_commands import RUN, within
from live.server_process import serving
from live.web_site import SERVES

TRIES = int(os.environ.get("DNSTRAIL_BUILDS", "2"))  # of each build; every second one tries what the list lacks


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Two hosts; every name below google.com is a mirror."""
    live_or_skip("git", "apt-get", "bash")
    with hosts() as both, run_dir() as folder, watched():
        make_mirrors(folder / "served")
        with serving(both, folder / "seen", sys.executable, "-c", SERVES, str(folder / "served")):
            yield both


@pytest.fixture(scope="module")
def folder(network: Hosts) -> Iterator[Path]:
    """Yield the folder of the builds, with the list that was learned from one of each."""
    with run_dir() as made:
        made.chmod(0o755)
        make_client(made)
        done = build(network, made, builds(), "--allow-learn", "learned")
        assert (done.returncode, done.stdout) == (0, "".join(OUTPUTS[name] for name in builds())), done.stderr
        yield made


def build(network: Hosts, folder: Path, names: list[str], *options: str, **env: str) -> subprocess.CompletedProcess:
    """Run some builds under dnstrail."""
    return subprocess.run(
        within(network, *RUN, "--quiet", *options, "--", "sh", "-c", script_of(names)),
        cwd=folder,
        env=environment_of(folder, **env),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_learned_list_has_what_the_builds_need(folder):
    """A mirror each, and the further question of apt."""
    lines = {line for line in (folder / "learned").read_text().splitlines() if not line.startswith("#")}
    assert lines == {*(f"{name}.google.com:80" for name in builds()), "_http._tcp.apt.google.com SRV"}


@pytest.mark.timeout(60 * TRIES + 240)
@pytest.mark.parametrize("name", SCRIPTS)
def test_builds_pass_and_their_refusals_are_named(network, folder, name):
    """Each build passes; where the code of a package tries more, the report names exactly that."""
    if name not in builds():
        pytest.skip(f"{name} is not installed")
    for number in range(TRIES):
        telemetry = "1" if number % 2 else ""
        options = ("--allow", "learned", "--enforce", "--report", "r.json")
        done = build(network, folder, [name], *options, TELEMETRY=telemetry)
        report = json.loads((folder / "r.json").read_text())
        assert (done.stdout, report["exit_code"]) == (OUTPUTS[name], 0), done.stderr
        refused = {(one["action"], one["name"] or one["address"], one["type"]) for one in report["refused"]}
        expected = {("ask", f"{name}.evil.test", "A"), ("reach", REFUSED_ADDRESS, "")} if telemetry else set()
        assert refused == expected
        if report["coverage"]["complete"]:  # which it need not be on a busy host
            assert done.returncode == (10 if telemetry else 0), (done.stderr, report["not_allowed"])
