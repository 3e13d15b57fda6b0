"""The measurement with real clients (`make accuracy-live`), run on a small scale."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from live.namespaces import live_or_skip, skip
from live.processes import PATIENCE

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tests/accuracy/live/accuracy_live.py"
CLIENTS, CONNECTIONS = "curl,wget", 12


def test_every_connection_of_two_clients_is_seen_and_its_name_is_in_the_set(tmp_path):
    """Each URL leads to a connection that dnstrail sees, and the name on the wire is among its names.

    `trail` and `get` by the printed event put the same name first as `dst_dns`.
    """
    live_or_skip("openssl", "unbound", "dig")
    if not any((ROOT / ".clients" / size).exists() for size in ("small", "all")):
        skip("no clients here: deploy/setup-accuracy.sh unpacks them")
    found = tmp_path / "found.json"
    size = ("--clients", CLIENTS, "--resolver", "direct,dnsmasq", "--connections", str(CONNECTIONS), "--rate", "20")
    command = [sys.executable, TOOL, "--seed", "3", "--names", "60", "--shared", "0.3", *size, "--json", found]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    connections = [one for one in json.loads(found.read_text())["connections"] if one["meant"]]
    assert len(connections) >= CONNECTIONS, done.stdout
    assert all({"seen", "in the set"} <= {*one["right"]} for one in connections), done.stdout
    firsts = [(one["event"]["names"][0], one["event"]["by_time"], one["event"]["got"]) for one in connections]
    assert all(len({*first}) == 1 for first in firsts), firsts
    assert {one["client"] for one in connections} == {*CLIENTS.split(",")}
    assert {one["meant"] for one in connections} == {name for one in connections for name in one["fetched"]}
