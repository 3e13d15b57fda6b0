"""Signatures that cannot start, and lists that vanish: a worker ends with 2, or is not ready, and names the list."""

from __future__ import annotations

import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from live.processes import PATIENCE, dnstrail, run_dir, started, wait_until
from live.workers import Probe, exchange, probe

FILE = '[signature.{}]\nfile = "{}"\n'
RULE = '[[watch]]\nname = "own"\nfile = "{}"\n'
PLACES = {
    "variable": "DNSTRAIL_WATCH_LIST",
    "file": "file of [signature.WATCHED_NAME]",
    "rule": "file of the rule 'own' in [[watch]]",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a run-dir in a folder for lists and settings."""
    with run_dir() as folder:
        yield folder


@pytest.mark.parametrize(
    ("setting", "content", "reason"),
    [
        ("variable", None, "No such file or directory"),
        ("file", None, "No such file or directory"),
        ("rule", None, "No such file or directory"),
        ("variable", "# nothing\n", "it has no name"),
        ("file", "unreadable.example\n", "may not read it"),
    ],
    ids=["variable", "file", "rule", "empty", "unreadable"],
)
def test_a_watch_list_that_cannot_be_used_ends_the_run(
    folder: Path, setting: str, content: str | None, reason: str
) -> None:
    """A run whose list cannot be used exits with 2 before it is ready, and names the list and where it is set."""
    path, config = folder.parent / "list", folder.parent / "f.toml"
    if content is not None:
        path.write_text(content)
        path.chmod(0 if "may not" in reason else 0o644)
    config.write_text({"file": FILE.format("WATCHED_NAME", path), "rule": RULE.format(path)}.get(setting, ""))
    variable = {"DNSTRAIL_WATCH_LIST": str(path)} if setting == "variable" else {}
    run = dnstrail("--config", config, "--capture", "demo", "--events", "WATCHED_NAME", **variable)
    assert (run.returncode, run.stdout) == (2, "")
    assert f"watch list {path}" in run.stderr
    assert f"{reason}: correct this list, or name another one ({PLACES[setting]})" in run.stderr
    assert "ready" not in run.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--config", "f.toml"), "/nowhere/known: user .* cannot write in /nowhere"),
        (("--dnscache", "none", "--events", "WATCHED_NAME"), "leave out --cache none and --dnscache none"),
        (("--signatures", "bad.py"), r"signature BAD \(X-1\) does not start: ValueError: on purpose"),
    ],
    ids=["a file that cannot be kept", "no cache", "a file of signatures"],
)
def test_a_signature_that_was_asked_for_and_cannot_start_ends_the_run(
    folder: Path, options: tuple[str, ...], reason: str
) -> None:
    """A signature that a name, a file or a setting asks for, and that does not start, ends the run with 2."""
    (folder.parent / "f.toml").write_text(FILE.format("DNSTRAIL-12", "/nowhere/known") + "enabled = true\n")
    (folder.parent / "bad.py").write_text(
        "from dnstrail import Signature, SignatureMetadata\n"
        "class Bad(Signature):\n"
        "    metadata = SignatureMetadata(id='X-1', version='1', name='Bad', event_name='BAD')\n"
        "    def init(self, ctx):\n        raise ValueError('on purpose')\n"
    )
    places = [str(folder.parent / option) if "." in option else option for option in options]
    run = dnstrail("--capture", "demo", *places)
    assert run.returncode == 2
    assert re.search(reason, run.stderr)
    assert "ready" not in run.stderr


class Worker:
    """A signature worker whose list a test removes, and its probe."""

    def __init__(self, process: subprocess.Popen[str], publishing: Probe, port: str, folder: Path) -> None:
        self.process = process
        self._publishing = publishing
        self._url = f"http://127.0.0.1:{port}/"
        self._folder = folder
        self._found = 0

    def ask(self, path: str) -> tuple[int, str]:
        """Return status and body of a path."""
        try:
            with urllib.request.urlopen(self._url + path, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def await_state(self, status: int, reason: str) -> None:
        """Wait until the worker is ready, or not ready for a reason, and until `health` states the same."""

        def reached() -> bool:
            found = self.ask("readyz")
            return found[0] == status and reason in found[1]

        def stated() -> bool:
            self._publishing.turn()
            health = dnstrail("health", "--run-dir", self._folder)
            return health.returncode == (status != 200) and reason in health.stderr

        wait_until(reached, f"/readyz {status}")
        wait_until(stated, f"health {status}")

    def finds(self) -> None:
        """Wait until the worker reports a watched name."""
        self._found += 1  # one asker and name are reported once in five seconds
        at = 1000.0 + 10 * self._found
        self._publishing.turn(*exchange("evil.example", "evil.example 60 A 192.0.2.66", at=at))
        assert self.process.stdout is not None
        assert '"WATCHED_NAME"' in self.process.stdout.readline()


@contextmanager
def worker(folder: Path, *options: str | Path) -> Iterator[Worker]:
    """Run a cache, and a signature worker with a list of its own; both have handled an event."""
    run = ("--run-dir", folder)
    watch_list = folder.parent / "list"
    with ExitStack() as stack:
        stack.enter_context(started("cache", *run))
        process = stack.enter_context(
            started(
                *("signatures", *run, "--select", "WATCHED_NAME", "--metrics", "0", *options),
                DNSTRAIL_WATCH_LIST=str(watch_list),
            )
        )
        wait_until((folder / "lookups.sock").exists, "the cache")
        assert process.stderr is not None
        port = next(found[1] for line in process.stderr if (found := re.search(r'"port": (\d+)', line)))
        publishing = stack.enter_context(probe(folder, subscribers=2))
        made = Worker(process, publishing, port, folder)
        made.finds()
        yield made


def test_a_list_that_vanishes_at_a_reload_is_named_and_the_old_one_stays(folder: Path) -> None:
    """The worker lives and finds as before, but it is not ready; `/readyz`, `health` and a metric name the list."""
    path, state = folder.parent / "list", folder.parent / "state"
    state.mkdir(mode=0o777)
    state.chmod(0o777)
    path.write_text("evil.example\n")
    path.chmod(0o644)
    fault = f"watch list {path}: No such file or directory"
    with worker(folder, "--state", state) as running:
        running.await_state(200, "")
        path.unlink()
        running.process.send_signal(signal.SIGHUP)
        running.await_state(503, fault)
        assert running.ask("healthz")[0] == 200
        assert 'dnstrail_signature_fault{signature="WATCHED_NAME"} 1.0' in running.ask("metrics")[1]
        running.finds()
    with worker(folder, "--state", state) as restarted:
        restarted.await_state(503, fault)
        path.write_text("evil.example\n")
        restarted.process.send_signal(signal.SIGHUP)
        restarted.await_state(200, "")
        assert 'dnstrail_signature_fault{signature="WATCHED_NAME"} 0.0' in restarted.ask("metrics")[1]


def test_a_rule_that_is_wrong_at_a_reload_is_named_and_the_old_ones_stay(folder: Path) -> None:
    """A wrong key and a missing file of a rule make the worker not ready until the settings are right again."""
    config, names = folder.parent / "f.toml", folder.parent / "names"
    (folder.parent / "list").write_text("evil.example\n")
    names.write_text("evil.example\n")
    right = RULE.format(names)
    config.write_text(right)
    with worker(folder, "--config", config) as running:
        assert '"name":"rule"' in running.process.stdout.readline()
        for text, reason in (
            (right.replace("file", "fil"), "unknown key in [[watch]]: did you mean file?"),
            (right.replace("names", "gone"), f"{folder.parent}/gone: No such file or directory"),
        ):
            config.write_text(text)
            running.process.send_signal(signal.SIGHUP)
            running.await_state(503, reason)
            config.write_text(right)
            running.process.send_signal(signal.SIGHUP)
            running.await_state(200, "")
        running.finds()
        assert '"name":"rule"' in running.process.stdout.readline()


def test_without_a_folder_of_state_a_restart_without_its_list_fails(folder: Path) -> None:
    """A worker that keeps nothing exits with 2 where its list is missing, whatever ran before."""
    path = folder.parent / "list"
    done = dnstrail("signatures", "--run-dir", folder, DNSTRAIL_WATCH_LIST=str(path))
    assert done.returncode == 2
    assert f"watch list {path}: No such file or directory" in done.stderr


def test_a_folder_of_state_that_cannot_be_written_is_refused(folder: Path) -> None:
    """A worker whose folder of state is missing exits with 2 and names it."""
    done = dnstrail("signatures", "--run-dir", folder, "--state", folder.parent / "none")
    assert done.returncode == 2
    assert f"--state {folder.parent / 'none'}: must be a folder in which user" in done.stderr
