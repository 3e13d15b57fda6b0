"""`dnstrail run` with programs that people run: curl, Python, git and apt, beside what a server and strace saw."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.namespaces import SERVER, Hosts, hosts, live_or_skip
from live.processes import PATIENCE, run_dir
from live.run_commands import RUN, within
from live.server_process import serving
from live.system_calls import SystemCalls
from live.web_site import APT, APT_FOLDERS, SERVES, make_site

SCRIPT = f"""set -e
curl -sS http://curl.google.com/page http://again.google.com/page
{sys.executable} -c 'import urllib.request
print(urllib.request.urlopen("http://python.google.com/page").read().decode())'
git clone -q http://git.google.com/repository clone
cat clone/file
{APT_FOLDERS}
{APT} update > apt.log
{APT} download hello >> apt.log 2>&1
cat hello_1_all.deb
rm -rf clone hello_1_all.deb state cache
exit 3
"""
NAMES = {f"{name}.google.com" for name in ("curl", "again", "python", "git", "apt")}


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Two hosts; every name below google.com has the address of the server."""
    live_or_skip("curl", "git", "apt-get", "strace")
    with hosts() as both:
        yield both


def on_client(network: Hosts, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the client without the proxies of this host."""
    env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return subprocess.run(
        within(network, *command),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        env={**env, "SUDO_UID": "", "DNSTRAIL_RUN_DIR": "/nowhere", "GIT_CONFIG_GLOBAL": "/dev/null"},
        check=False,
    )


def test_every_connection_of_real_programs_is_in_the_report(network):
    """Each connection that the server saw is in the report with its name, and with the process that strace saw.

    The command is as without dnstrail.
    """
    with run_dir() as folder:
        (folder / "sources.list").write_text("deb [trusted=yes] http://apt.google.com ./\n")
        served = folder / "served"
        make_site(served)
        calls = SystemCalls(folder)
        with serving(network, folder / "seen", sys.executable, "-c", SERVES, str(served)) as seen:
            plain = on_client(network, folder, "sh", "-c", SCRIPT)
            alone = len(seen.read_text().splitlines())
            run = (*RUN, "--quiet", "--report", "r.json", "--", *calls.strace, "sh", "-c", SCRIPT)
            done = on_client(network, folder, *run)
            names = [line.split() for line in seen.read_text().splitlines()[alone:]]
        report = json.loads((folder / "r.json").read_text())
        processes = calls.connections(80)
    assert (plain.returncode, plain.stdout) == (3, "a page\na page\na page\n\nfrom git\na package\n"), plain.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # a worker of a busy host may warn
    assert (done.returncode, done.stdout, said) == (plain.returncode, plain.stdout, plain.stderr.splitlines())
    expected = Counter((name, *processes[int(port)]) for port, name in names)
    assert {name for _, name in names} == NAMES
    assert len(names) == len(processes)
    found: Counter[tuple[str, int, str, str]] = Counter()
    for one in report["connections"]:
        assert (one["address"], one["port"], one["results"].keys()) == (SERVER, 80, {"connected"})
        program = one["program"]
        found[one["name"], program["pid"], program["name"], program["executable"]] += one["results"]["connected"]
    assert found == expected
    assert report["coverage"]["complete"]
