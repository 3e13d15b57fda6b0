"""curl, git and apt under `dnstrail run --enforce`: they work with the servers of the list, and fail with others."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from live.attempts import allowed_address, allowed_name, other_name
from live.enforced import LISTED_RUN, client_folder, enforced
from live.listed_network import RESOLVER, ListedNetwork, listed_network
from live.namespaces import live_or_skip
from live.processes import run_dir
from live.server_process import serving
from live.web_site import APT, APT_FOLDERS, make_site

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
SRV = f"_http._tcp.{allowed_name(4, 0)}"  # which apt asks for, and the list does not contain
URL = f"http://{allowed_name(4, 0)}:{PORT}"
OTHER = f"http://{other_name(4, 0)}:{PORT}"
SCRIPT = f"""
curl -sS {{url}}/page
git clone -q {{url}}/repository clone
cat clone/file
{APT_FOLDERS}
echo "deb [trusted=yes] {{url}} ./" > sources.list
{APT} update >&2
echo apt
curl -sS {{other}}/page 2>&1 | cut -c 1-9
git ls-remote {{other}}/repository
"""


@pytest.fixture(scope="module")
def served() -> Iterator[ListedNetwork]:
    """Yield the hosts; a web server has a page, a git repository and an apt repository."""
    live_or_skip("curl", "git", "apt-get")
    with run_dir() as made:
        made.chmod(0o755)
        root = made / "root"
        make_site(root)
        with (
            listed_network(made, 1) as network,
            serving(network.hosts, made / "web", sys.executable, "-c", SERVES, str(root)),
        ):
            network.ask(RESOLVER)
            yield network


def test_clients_reach_what_is_listed(served, monkeypatch):
    """The clients succeed with the server of the list, and fail with its other name at once."""
    monkeypatch.setenv("SUDO_UID", "")
    with client_folder() as folder:
        report, out = enforced(served, folder, "sh", "-ec", SCRIPT.format(url=URL, other=OTHER), prefix=LISTED_RUN)
    assert out.splitlines() == ["a page", "from git", "apt", "curl: (6)"]
    assert report["exit_code"] == 128, "git has failed"
    refused = {(one["action"], one["name"]) for one in report["refused"]} - {("ask", SRV)}
    assert refused == {("ask", other_name(4, 0))}, report["refused"]
    if report["coverage"]["complete"]:
        ends = {(one["name"], one["address"], one["program"]["name"]) for one in report["connections"]}
        programs = ("curl", "git-remote-http", "http")
        assert ends == {(allowed_name(4, 0), allowed_address(4, 0), program) for program in programs}
