"""`dnstrail run --enforce` on the real kernel: what the allowed names lead to passes, and nothing else does."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnstrail.kernel.cgroups import find_cgroup2
from dnstrail_run import cgroup
from live import attempts, forged_answers
from live.attempts import WAYS, allowed_address, other_address, other_name
from live.crafted_answers import CASES, RAW_TAKEN, TCP_TAKEN, UDP_TAKEN
from live.enforced import LISTED_RUN, RUN, enforced, watched
from live.listed_network import (
    CRAFTING,
    FOREIGN,
    FOREIGN6,
    RESOLVER,
    RESOLVER6,
    SHARED,
    TARGET,
    ListedNetwork,
    listed_network,
    serving,
)
from live.namespaces import live_or_skip
from live.processes import PATIENCE, run_dir, wait_until
from live.run_commands import within

CONNECTIONS = int(os.environ.get("DNSTRAIL_ENFORCED_CONNECTIONS", "96"))  # of each kind
# Tries an allowed name and another address, again and again, and writes the results of each turn to a file.
TRIES = """
import json, os, socket, sys
from pathlib import Path
sys.path.insert(0, {support!r})
from live.attempts import allowed_name, connect, other_address, result
def both():
    name = result(lambda: socket.create_connection((allowed_name(4, 2), 80), timeout=60).close())
    other = result(lambda: connect(4, other_address(4, 2)))
    Path("turn.new").write_text(json.dumps([os.getpid(), os.getppid(), name, other]))
    os.rename("turn.new", "turn")
while Path("go").exists(): # and no longer than the folder
    both()
"""


@pytest.fixture(scope="module")
def network() -> Iterator[ListedNetwork]:
    """Yield a client with the list, and a server that has all addresses."""
    live_or_skip("dig", "unshare")
    with run_dir() as made:
        made.chmod(0o755)
        with listed_network(made, CONNECTIONS) as both, watched():
            yield both


@pytest.mark.parametrize("resolver", [RESOLVER, RESOLVER6])
def test_only_what_the_names_lead_to_is_reached(network, folder, resolver):
    """Each allowed connection passes, right after its answer; each other one is refused, and reported."""
    network.ask(resolver)
    before = network.seen()
    report, out = enforced(network, folder, sys.executable, attempts.__file__, str(CONNECTIONS), str(CONNECTIONS))
    seen, found = network.seen() - before, json.loads(out)
    assert found["passed"] == {"ok": CONNECTIONS}
    ways = {way: results for way, results in found["refused"].items() if results.keys() != {"EPERM"}}
    assert (ways, found["namespace"]) == ({}, ["EPERM", "EPERM"])
    assert len(found["refused"]) == 2 * len(WAYS)
    assert set(found["sockets"].values()) <= {"EPERM", "EACCES", "ENOPROTOOPT", "EPROTONOSUPPORT"}
    assert found["binds"] == [*["EPERM"] * 5, "ok"]
    assert seen == {("tcp", allowed_address(4 if number % 2 else 6, number)): 1 for number in range(CONNECTIONS)}
    refused = {(one["address"], one["transport"]) for one in report["refused"] if one["action"] == "reach"}
    assert {(FOREIGN, "udp"), (FOREIGN, "tcp"), (FOREIGN6, "udp"), (FOREIGN6, "tcp")} <= refused
    named = {one["name"]: one["address"] for one in report["refused"] if one["name"].endswith("other.test")}
    assert not report["coverage"]["complete"] or named == {
        other_name(version, number): other_address(version, number)
        for number in range(CONNECTIONS)
        if WAYS[number // 2 % len(WAYS)] is attempts._named
        for version in [4 if number % 2 else 6]
    }
    assert not [one for one in report["connections"] if one["address"].startswith(("10.97.", "fd97:"))]
    assert report["enforcement"] == []


def test_names_that_share_an_address(network, folder):
    """An address that an allowed name led to is reachable under every name; the report objects to the other name."""
    network.ask(RESOLVER)
    script = """
import socket
for name in ("fourth.test", "shared.test", "fourth.test", "alias.test"):
    try:
        socket.create_connection((name, 80)).close()
        print(name, "ok")
    except PermissionError:
        print(name, "refused")
many = {each[4][0] for each in socket.getaddrinfo("many.allowed.test", 80, socket.AF_INET, socket.SOCK_STREAM)}
for address in many:
    socket.create_connection((address, 80)).close()
print(len(many), "ok")
for port in (0, 9, 65535):
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        print(port, made.connect_ex((address, port)))
"""
    report, out = enforced(network, folder, sys.executable, "-c", script)
    lines = ["fourth.test refused", "shared.test ok", "fourth.test ok", "alias.test ok"]
    sorting = ["0 0", f"9 {errno.EPERM}", f"65535 {errno.EPERM}"]
    assert out.splitlines() == [*lines, "100 ok", *sorting], "the answer of 100 addresses came over TCP"
    assert not [one for one in report["refused"] if one["transport"] == "udp"], "to sort addresses is no offence"
    if report["coverage"]["complete"]:
        assert f"reached fourth.test ({SHARED}:80/tcp)" in report["not_allowed"]
        reason = f"the list has neither fourth.test nor {SHARED}"
        assert f"tried to reach fourth.test ({SHARED}:80/tcp): {reason}" in report["not_allowed"]
        assert not any(TARGET in line for line in report["not_allowed"])


def test_the_answers_that_count(network, folder):
    """Well-formed answers of a resolver about an allowed name count, up to their bounds; nothing else does."""
    network.ask(CRAFTING)
    support = str(Path(attempts.__file__).parents[1])
    module = ("env", f"PYTHONPATH={support}", sys.executable, "-m", "live.crafted_answers")
    with serving(network.hosts, folder / "resolver", *module, "resolver", CRAFTING):
        report, out = enforced(network, folder, *module, "command", CRAFTING)
    taken = {**UDP_TAKEN, **TCP_TAKEN, **RAW_TAKEN}
    assert json.loads(out) == {"forged": "EPERM", **{name: "ok" if name in taken else "EPERM" for name in CASES}}
    (note,) = report["enforcement"]
    assert note.startswith("9 answers were not read to their end")


@pytest.mark.parametrize(("resolver", "own"), [("127.0.0.53", "127.0.0.1"), (RESOLVER6, "::1")])
def test_an_answer_of_the_command_itself(network, folder, resolver, own):
    """A command cannot send itself an answer in the name of a resolver on this host, or of one elsewhere."""
    network.ask(resolver)
    with (folder / "allowed").open("a") as file:
        file.write(f"[{own}]:{forged_answers.ASKING}\n")
    module = ("env", f"PYTHONPATH={Path(attempts.__file__).parents[1]}", sys.executable, "-m", "live.forged_answers")
    report, out = enforced(network, folder, *module, resolver, own)
    assert out.split() == ["EPERM", "EPERM"]
    refused = {(one["action"], one["address"], one["port"]) for one in report["refused"]}
    assert refused == {("bind", own, 53), ("reach", forged_answers.TARGET, attempts.PORT)}


@contextmanager
def trying(network: ListedNetwork, folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command that tries in turns; wait until it has begun."""
    network.ask(RESOLVER)
    support = str(Path(attempts.__file__).parents[1])
    (folder / "tries.py").write_text(TRIES.format(support=support))
    (folder / "go").touch()
    run = (*LISTED_RUN, *options, "--quiet", "--", sys.executable, "tries.py")
    with subprocess.Popen(within(network.hosts, *run), cwd=folder) as process:
        try:
            wait_until((folder / "turn").exists, "the command", PATIENCE)
            yield process
        finally:
            end_turns(folder)
            process.kill()


def end_turns(folder: Path) -> None:
    """Let the command that tries end, and wait for its end."""
    (folder / "go").unlink()
    if (folder / "turn").exists():
        command = turn(folder)[0]
        wait_until(lambda: not Path(f"/proc/{command}").exists(), "the end of the command", PATIENCE)


def turn(folder: Path) -> tuple[int, int, list[str]]:
    """Return the last turn: the process, its parent, and the results of the allowed name and the other address."""
    process, parent, *results = json.loads((folder / "turn").read_text())
    return process, parent, results


@pytest.mark.parametrize(
    ("on_crash", "launcher_too", "expected"),
    [("refuse", False, ["no name", "EPERM"]), ("refuse", True, ["no name", "EPERM"]), ("allow", True, ["ok", "ok"])],
)
def test_dnstrail_is_killed(network, folder, on_crash, launcher_too, expected):
    """After a kill of dnstrail, everything is refused or allowed, and others are never touched."""
    with trying(network, folder, "--on-crash", on_crash) as process:
        command, launcher, results = turn(folder)
        assert results == ["ok", "EPERM"]
        assert beside(network) == "ok"
        if launcher_too:
            os.kill(launcher, signal.SIGKILL)
        process.kill()
        wait_until(lambda: turn(folder)[2] == expected, "what holds after a crash", PATIENCE)
        held = turn(folder)[0]
        assert (held, beside(network)) == (command, "ok")
    left = folder_of(launcher)
    assert not launcher_too or left.exists()
    remove = cgroup._remove_abandoned if launcher_too else bool  # as the next run does
    wait_until(lambda: remove(left.parent) or not left.exists(), "the end of the cgroup", PATIENCE)


def beside(network: ListedNetwork) -> str:
    """Return the result of a connection that a process beside the command makes."""
    command = (sys.executable, attempts.__file__, "connect", "4", other_address(4, 2))
    return network.hosts.on_client(*command).stdout.strip()


def folder_of(launcher: int) -> Path:
    """Return the cgroup that a launcher made."""
    own = cgroup._own_cgroup(Path(find_cgroup2()))
    return own / f"dnstrail-run-{launcher}"


def test_what_outlives_the_command_reaches_nothing(network, folder):
    """A process that the command leaves behind is refused everything after its end."""
    network.ask(RESOLVER)
    support = str(Path(attempts.__file__).parents[1])
    (folder / "tries.py").write_text(TRIES.format(support=support))
    (folder / "go").touch()
    script = f"setsid -f {sys.executable} tries.py > /dev/null 2>&1; while ! [ -e turn ]; do sleep 0.01; done"
    try:
        report, _ = enforced(network, folder, "sh", "-c", script)
        assert report["left"] == 1
        before = (folder / "turn").stat().st_mtime_ns
        wait_until(lambda: (folder / "turn").stat().st_mtime_ns > before, "a turn after the end", PATIENCE)
        wait_until(lambda: turn(folder)[2] == ["no name", "EPERM"], "the end", PATIENCE)
        assert beside(network) == "ok"
    finally:
        end_turns(folder)


def test_the_list_is_needed(network, folder):
    """--enforce without --allow starts nothing."""
    run = (*RUN[:4], "--enforce", "--", "touch", "started")
    done = subprocess.run(within(network.hosts, *run), cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, (folder / "started").exists()) == (2, False)
    assert "--enforce needs --allow" in done.stderr
