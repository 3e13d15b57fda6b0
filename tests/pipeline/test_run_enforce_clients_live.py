"""curl, git and apt under `dnstrail run --enforce`: they work with the servers of the list, and fail with others."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.attempts import allowed_address, allowed_name, other_address, other_name
from live.enforced import client_folder, enforced
from live.listed_network import RESOLVER, ListedNetwork, listed_network, serving
from live.namespaces import live_or_skip
from live.processes import run_dir

pytestmark = pytest.mark.timeout(180)
PORT = 8080
SERVES = f"""
import functools, http.server, socket, sys
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = Server(("::", {PORT}), handler)
print("ready", flush=True)
server.serve_forever()
"""
URL = f"http://{allowed_name(4, 0)}:{PORT}"
OTHER = f"http://{other_name(4, 0)}:{PORT}"
SCRIPT = """
curl -sS {url}/page
git clone -q {url}/one.git clone
git -C clone log --format=%s
mkdir -p apt/lists/partial apt/archives/partial
echo "deb [trusted=yes] {url}/apt ./" > sources
apt-get -qq -o Dir::Etc::sourcelist=$PWD/sources -o Dir::Etc::sourceparts=- -o Dir::State=$PWD/apt \\
    -o Dir::Cache=$PWD/apt -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any update >&2
echo apt
curl -sS {other}/page 2>&1 | cut -c 1-9
git ls-remote {other}/one.git
"""


@pytest.fixture(scope="module")
def served() -> Iterator[ListedNetwork]:
    """Yield the hosts; a web server has a page, a git repository and an apt repository."""
    live_or_skip("curl", "git", "apt-get")
    with run_dir() as made:
        made.chmod(0o755)
        root = made / "root"
        _make_site(root)
        with (
            listed_network(made, 1) as network,
            serving(network.hosts, made / "web", sys.executable, "-c", SERVES, str(root)),
        ):
            network.ask(RESOLVER)
            yield network


def _make_site(root: Path) -> None:
    (root / "apt").mkdir(parents=True)
    (root / "page").write_text("the page\n")
    (root / "apt/Packages.gz").write_bytes(gzip.compress(b""))
    source = root.with_name("source")
    for command in (
        ["git", "init", "-q", source],
        [
            "git",
            "-C",
            source,
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "one",
        ],
        ["git", "clone", "-q", "--bare", source, root / "one.git"],
        ["git", "-C", root / "one.git", "update-server-info"],
    ):
        subprocess.run(command, check=True, capture_output=True)


def test_clients_reach_what_is_listed(served, monkeypatch):
    """The clients succeed with the server of the list, and fail with its other name at once."""
    monkeypatch.setenv("SUDO_UID", "")
    with client_folder() as folder:
        report, out = enforced(served, folder, "sh", "-ec", SCRIPT.format(url=URL, other=OTHER))
    assert out.splitlines() == ["the page", "one", "apt", "curl: (7)"]
    assert report["exit_code"] == 128, "git has failed"
    refused = {(one["address"], one["program"]["name"]) for one in report["refused"]}
    assert refused == {(other_address(4, 0), "curl"), (other_address(4, 0), "git-remote-http")}
    if report["coverage"]["complete"]:
        ends = {(one["name"], one["address"], one["program"]["name"]) for one in report["connections"]}
        programs = ("curl", "git-remote-http", "http")
        assert ends == {(allowed_name(4, 0), allowed_address(4, 0), program) for program in programs}
        assert {one["name"] for one in report["refused"]} == {other_name(4, 0)}
