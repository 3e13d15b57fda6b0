"""`--to` of the all-in-one run: its findings are written to outputs, too."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.processes import PATIENCE, children_of, command_line, dnstrail, started, wait_until
from live.workers import short_folder

ALL = """
from dnstrail import EventSelector, Signature, SignatureMetadata

class Every(Signature):
    metadata = SignatureMetadata(id="T-1", version="1", name="Every", event_name="EVERY")
    selected_events = (EventSelector(name="net_packet_dns"),)

    def on_event(self, event):
        for number in range(20):
            self.report(event, number=number)
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the user of the workers is another one only under root")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder in which the user of the workers can make files, and one with a signature."""
    with short_folder() as folder:
        folder.chmod(0o755)
        (folder / "out").mkdir()
        (folder / "out").chmod(0o777)
        (folder / "every.py").write_text(ALL)
        (folder / "every.py").chmod(0o644)
        yield folder / "out"


def test_all_findings_of_a_file_are_written(folder: Path) -> None:
    """The outputs receive what is shown, to the last finding."""
    signature, outputs = (
        folder.parent / "every.py",
        ("--to", f"file:{folder}/a", "--to", f"file:{folder}/b,format=text"),
    )
    run = dnstrail("replay", "demo", "--signatures", signature, "--events", "EVERY", "--output", "json", *outputs)
    shown = [json.loads(line)["findingId"] for line in run.stdout.splitlines()]
    assert (run.returncode, len(shown) % 20) == (0, 0), run.stderr
    assert len(shown) >= 20
    assert [json.loads(line)["findingId"] for line in (folder / "a").read_text().splitlines()] == shown
    assert [line.split()[3] for line in (folder / "b").read_text().splitlines()] == [f"id={one}" for one in shown]


def test_a_run_is_ready_once_its_outputs_were_tried(folder: Path) -> None:
    """A short file has ended before the worker of findings has started: the run waits for it, and writes all."""
    (folder.parent / "every.py").write_text(ALL.replace("20", "1"))  # so that stdout can hold what is shown
    options = ("--signatures", folder.parent / "every.py", "--events", "EVERY", "--to", f"file:{folder}/a")
    with started("replay", "demo", *options, "--output", "json") as run:
        late: list[int] = []

        def workers(name: str) -> list[int]:
            return [child for child in children_of(run.pid) if f"dnstrail_{name}" in command_line(child)]

        def begins() -> bool:
            late[:] = workers("findings")
            return bool(late)

        wait_until(begins, "the worker of findings")
        os.kill(late[0], signal.SIGSTOP)
        try:
            wait_until(lambda: workers("probe"), "the probe")
            wait_until(lambda: not workers("probe"), "the end of the probe")
            assert select.select([run.stderr], [], [], 0)[0] == []
        finally:
            os.kill(late[0], signal.SIGCONT)
        shown, said = run.communicate(timeout=PATIENCE)
        shown = shown.splitlines()
    assert said.startswith("dnstrail: ready\n")
    assert len(shown) > 10
    assert len((folder / "a").read_text().splitlines()) == len(shown)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        pytest.param("file:{}/of-root/f.jsonl", "Permission denied", marks=as_root),
        ("syslog:{}/log", "No such file or directory"),
        pytest.param("webhook:http://127.0.0.1:9/,spool={}/of-root/spool", "Permission denied", marks=as_root),
    ],
    ids=["a file in a folder of root", "no socket", "a spool in a folder of root"],
)
def test_an_output_that_cannot_be_written_ends_the_run(folder: Path, output: str, reason: str) -> None:
    """A run exits with 2 before it is ready if its user cannot write to an output of this host, and leaves nothing."""
    (folder / "of-root").mkdir(mode=0o755)
    first = ("--to", f"file:{folder}/first.jsonl")
    run = dnstrail("--capture", "demo", "--events", "WATCHED_NAME", *first, "--to", output.format(folder))
    assert run.returncode == 2
    assert f"{folder}" in run.stderr
    assert reason in run.stderr
    assert "ready" not in run.stderr
    assert [*folder.iterdir(), *(folder / "of-root").iterdir()] == [folder / "of-root"]


def test_a_receiver_that_is_away_is_no_failure() -> None:
    """A run whose syslog server is away is ready and ends with 0; its log names the failure."""
    run = dnstrail("--capture", "demo", "--events", "WATCHED_NAME", "--to", "syslog:tcp://127.0.0.1:1")
    assert run.returncode == 0
    assert "ready" in run.stderr
    assert "output_failed" in run.stderr


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--to", "stdout"], "the run itself prints its findings"),
        (["--to", "file:"], "write file:PATH"),
        (["--to", "file:x", "--events", "net_packet_dns"], "--events names no signature"),
    ],
)
def test_an_output_that_would_receive_nothing_is_refused(options: list[str], reason: str) -> None:
    """A wrong output, and one without findings, exit with 2 and one line."""
    run = dnstrail("--capture", "demo", *options)
    assert (run.returncode, len(run.stderr.splitlines())) == (2, 1)
    assert reason in run.stderr
