from __future__ import annotations

import json
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from live.processes import PATIENCE, alive, children_of, command_line, dnstrail, run_dir, started, wait_until
from live.stopped import frozen

HANGING = """
import threading
from dnstrail import EventSelector, Signature, SignatureMetadata

class Hanging(Signature):
    metadata = SignatureMetadata(id="T-1", version="1", name="Hanging", event_name="HANGING")
    selected_events = (EventSelector(name="net_packet_dns"),)

    def on_event(self, event):
        threading.Event().wait()
"""


def test_a_stopped_worker_ends_the_run_and_is_named() -> None:
    """If the process of a worker is stopped, the run names and kills it, and ends all workers with code 4."""
    with ThreadPoolExecutor() as threads:  # three runs at once, since each waits for seconds
        list(threads.map(stop_a_worker, ("cache", "signatures", "probe")))


def stop_a_worker(worker: str) -> None:
    """Start a run and stop one of its workers."""
    with run_dir() as folder:
        arguments = ("--capture", f"dnstap:{folder}/dnstap.sock", "--run-dir", folder)
        with started(*arguments, "--events", "WATCHED_NAME") as run:
            assert any("ready" in line for line in run.stderr)
            children = children_of(run.pid)
            stopped = next(child for child in children if f"dnstrail_{worker}" in command_line(child))
            wait_until(lambda: ended_while_stopped(run, stopped), "the end of the run")
            assert run.returncode == 4
            said = run.stderr.read()
            assert "worker_hung" in said
            assert f"the {worker} worker hung" in said
            wait_until(lambda: not any(alive(child) for child in children), "the end of the workers")


def test_a_signature_that_hangs_ends_the_run(tmp_path: Path) -> None:
    """A signature that never returns from an event ends the run, which names the worker."""
    (tmp_path / "hanging.py").write_text(HANGING)
    options = ("--events", "HANGING", "--signatures", tmp_path / "hanging.py")
    with run_dir() as folder, started("--capture", "demo", "--stay", "--run-dir", folder, *options) as run:
        assert run.wait(PATIENCE) == 4
        assert "the signatures worker hung" in run.stderr.read()


@pytest.mark.parametrize("worker", ["cache", "signatures", "probe"])
def test_a_worker_notifies_systemd(worker: str) -> None:
    """Each worker reports that it is ready, and then that its loop runs."""
    with run_dir() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        folder.chmod(0o755)  # the worker changes its user
        systemd.bind(str(folder / "notify"))
        (folder / "notify").chmod(0o777)
        systemd.settimeout(PATIENCE)
        options = ("--capture", f"dnstap:{folder}/dnstap.sock") if worker == "probe" else ()
        with started(worker, *options, "--run-dir", folder / "run", NOTIFY_SOCKET=str(folder / "notify")):
            assert systemd.recv(100) == b"READY=1\nWATCHDOG=1"
            assert systemd.recv(100) == b"WATCHDOG=1"


def test_a_silent_probe_is_unhealthy() -> None:
    """`dnstrail health`, the health check of the compose file, fails while the probe is silent."""
    with (
        run_dir() as folder,
        started("cache", "--run-dir", folder),
        started("probe", "--capture", f"dnstap:{folder}/dnstap.sock", "--run-dir", folder) as probe,
    ):
        wait_until(lambda: status(folder) == (1, "ok"), "a turn")  # healthy but for the first event
        probe.send_signal(signal.SIGSTOP)
        wait_until(lambda: status(folder) == (1, "silent"), "the silence")
        probe.send_signal(signal.SIGCONT)
        wait_until(lambda: status(folder) == (1, "ok"), "a turn again")


def ended_while_stopped(run: subprocess.Popen[str], worker: int) -> bool:
    """Stop a worker and return true if the run ends; else let the worker go on: it had not reached its loop."""
    with suppress(subprocess.TimeoutExpired), frozen(worker):
        run.wait(15)
    with suppress(subprocess.TimeoutExpired):
        run.wait(1)
    return run.returncode is not None


def status(folder: Path) -> tuple[int, str]:
    """Return the exit code and the status of the health command."""
    done = dnstrail("health", "--json", "--run-dir", folder)
    return done.returncode, json.loads(done.stdout or "{}").get("status", "")
