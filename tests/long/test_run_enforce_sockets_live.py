"""`dnstrail run --enforce` and what a socket can do beside its connection: source routes, and sockets of others."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from live import source_routes
from live.enforced import enforced, watched
from live.listed_network import RESOLVER, ListedNetwork, listed_network, serving
from live.namespaces import live_or_skip
from live.processes import run_dir, wait_until
from live.source_routes import HOPS, MARK, WAYS

SUPPORT = str(Path(source_routes.__file__).parents[1])
ROUTES = ("env", f"PYTHONPATH={SUPPORT}", sys.executable, "-m", "live.source_routes")


@pytest.fixture(scope="module")
def network() -> Iterator[ListedNetwork]:
    """Yield a client with the list, and a server that has all addresses."""
    live_or_skip()
    with run_dir() as made:
        made.chmod(0o755)
        with listed_network(made, 1) as both, watched():
            both.ask(RESOLVER)
            yield both


def test_a_source_route_leads_nowhere(network, folder):
    """No packet with a source route leaves, also after the end of the command, and the report counts them."""
    with (folder / "allowed").open("a") as file:
        file.write(f"{MARK}:80\n")
    with serving(network.hosts, folder / "packets", *ROUTES, "watch", *HOPS.values()) as packets:
        report, out = enforced(network, folder, *ROUTES, "command")
        wait_until(lambda: MARK in packets.read_text(), "the mark")
        assert packets.read_text().split("\n")[1:-1] == [f"10.99.0.2 {MARK}"], out
    found = json.loads(out)
    assert found.pop("reverse") == "EPERM"
    assert found.keys() == WAYS.keys()
    assert {found[name] for name in found if "datagram" in name} <= {"EPERM", "EINVAL"}
    assert not {"loose", "strict", "IPv6"} & {name for name in found if found[name] == "ok"}
    (note,) = report["enforcement"]
    assert note.endswith("packets with a source route were refused.")
