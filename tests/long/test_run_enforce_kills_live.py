"""`dnstrail run --enforce` while workers are killed under load: nothing passes that was refused."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dnstrail_run.watch import serves_live
from live import unlisted_questions
from live.attempts import allowed_name, other_address
from live.enforced import LISTED_RUN, client_folder
from live.listed_network import RESOLVER, RESOLVER6, ListedNetwork, listed_network, serving
from live.namespaces import live_or_skip
from live.processes import PATIENCE, run_dir, wait_until
from live.run_commands import within

VICTIMS = ("probe", "cache", "signatures", "history", "run")
ORDERS = [*itertools.permutations(VICTIMS)]
TRIED = int(os.environ.get("DNSTRAIL_KILL_ORDERS", str(len(VICTIMS))))  # each victim is the first one once
SUPPORT = Path(unlisted_questions.__file__).parents[1]
WATCH = ("env", f"PYTHONPATH={SUPPORT}", sys.executable, "-m", "live.unlisted_questions", "watch")
TURNS = 8  # of the command from one kill to the next
# Asks other names and connects to other addresses without a pause, a listed name among them; notes the results.
LOAD = f"""
import json, os, socket, struct, sys
from collections import Counter
from pathlib import Path
sys.path.insert(0, {str(SUPPORT)!r})
from live.attempts import *
from live.attempts import _sent
from live.unlisted_questions import leak, message, wire, framed
def datagram(version, resolver):
    _sent(version, resolver, 53, message(wire(leak())))
def stream():
    with socket.create_connection(({RESOLVER!r}, 53), 1) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # dnsmasq waits for a question
        made.sendall(framed(message(wire(leak()))))
        made.settimeout(0.02)
        made.recv(2)
ways = [
    lambda: datagram(4, {RESOLVER!r}),
    lambda: datagram(6, {RESOLVER6!r}),
    stream,
    lambda: socket.getaddrinfo(other_name(4, 0), 80),
    lambda: connect(4, other_address(4, 0)),
    lambda: connect(6, other_address(6, 0)),
    lambda: _sent(4, other_address(4, 0), 80),
]
refused, turns = Counter(), 0
while Path("go").exists():
    refused.update(result(way) for way in ways)
    listed = result(lambda: socket.create_connection((allowed_name(4, 0), 80), 60).close())
    turns += 1
    Path("turn.new").write_text(json.dumps([os.getppid(), turns, refused, listed]))
    os.rename("turn.new", "turn")
"""


@pytest.fixture(scope="module")
def network() -> Iterator[ListedNetwork]:
    """Yield a client with the list, and a server that has all addresses."""
    live_or_skip()
    with run_dir() as made:
        made.chmod(0o755)
        with listed_network(made, 1) as both:
            both.ask(RESOLVER, RESOLVER6)
            yield both


class Workers:
    """The workers of a host, each started alone, and a command that they watch; all can be killed."""

    def __init__(self, network: ListedNetwork, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._run_dir = stack.enter_context(run_dir()).parent
        self._run_dir.chmod(0o755)
        self._run_dir /= "run"
        for worker, *options in (
            ("cache",),
            ("signatures",),
            ("history", "--folder", self._run_dir.parent / "history"),
            ("probe", "--capture", "ebpf", "--subscribers", "2"),
        ):
            self._start(worker, [*LISTED_RUN[:3], worker, "--run-dir", self._run_dir, *options])
        wait_until(self._run_dir.exists, "the run-dir")
        wait_until(lambda: serves_live(self._run_dir), "the workers")
        (folder / "go").touch()
        self._start("run", within(network.hosts, *LISTED_RUN, "--quiet", "--", sys.executable, "-c", LOAD))
        wait_until((folder / "turn").exists, "the command")

    def _start(self, name: str, command: list[str | Path]) -> None:
        environment = {**os.environ, "SUDO_UID": "", "DNSTRAIL_RUN_DIR": str(self._run_dir)}
        log = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(command, cwd=self._folder, env=environment, stdout=log, stderr=log)
        self._processes[name] = self._stack.enter_context(process)
        self._stack.callback(process.kill)

    def kill(self, name: str) -> None:
        """Kill a worker, or dnstrail itself, and wait for its end."""
        assert self._processes[name].poll() is None, (self._folder / f"{name}.log").read_text()
        self._processes[name].kill()
        self._processes[name].wait(PATIENCE)

    def work(self, *, ended: bool = False) -> tuple[int, dict[str, int], str]:
        """Wait for some whole turns; return the launcher, the results of what is refused, and of what is listed.

        The launcher learns later that dnstrail has `ended`: wait until nothing that is listed passes.
        """
        wait_until(lambda: not ended or self._turn()[3] != "ok", "the launcher to learn that dnstrail has ended")
        begun = self._turn()[1]
        wait_until(lambda: self._turn()[1] > begun + TURNS, "turns of the command")
        launcher, _, refused, listed = self._turn()
        return launcher, refused, listed

    def _turn(self) -> tuple[int, int, dict[str, int], str]:
        launcher, turns, refused, listed = json.loads((self._folder / "turn").read_text())
        return launcher, turns, refused, listed


@pytest.mark.timeout(90 * TRIED + 120)
@pytest.mark.parametrize("order", ORDERS[:: len(ORDERS) // TRIED], ids=" ".join)
def test_nothing_passes_after_a_kill(network, order):
    """Each worker and dnstrail itself are killed, one after the other, and then the launcher.

    All that time the command asks other names and connects to other addresses. None arrives. A listed name leads to its
    address until dnstrail is killed.
    """
    before = network.seen()
    with ExitStack() as stack:
        folder = stack.enter_context(client_folder())
        arrived = stack.enter_context(serving(network.hosts, folder / "arrived", *WATCH))
        workers = Workers(network, folder, stack)
        stack.callback((folder / "go").unlink, missing_ok=True)
        launcher, _, listed = workers.work()
        assert listed == "ok"
        for victim in order:
            workers.kill(victim)
            _, refused, listed = workers.work(ended=victim == "run")
            held = order.index("run") > order.index(victim)
            assert listed == ("ok" if held else "no name")
        os.kill(launcher, signal.SIGKILL)
        _, refused, listed = workers.work()
        assert (refused.keys() - {"ETIMEDOUT"}, listed) == ({"EPERM", "no name"}, "no name")
        asked = bytes.fromhex("".join(line.split()[1] for line in arrived.read_text().splitlines()[1:]))
    assert allowed_name(4, 0).split(".")[1].encode() in asked
    assert not {name for name in (b"evil", b"other") if name in asked}
    assert not {end for end in network.seen() - before if end[1] in {other_address(4, 0), other_address(6, 0)}}
