"""`--to` of the all-in-one run: its findings are written to outputs, too."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.processes import children_of, command_line, dnstrail, started, wait_until
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


def test_a_worker_of_findings_that_starts_late_receives_all(folder: Path) -> None:
    """A short file has ended before the worker of findings has started: the run waits for it."""
    (folder.parent / "every.py").write_text(ALL.replace("20", "1"))  # so that stdout can hold what is shown
    options = ("--signatures", folder.parent / "every.py", "--events", "EVERY", "--to", f"file:{folder}/a")
    with started("replay", "demo", *options, "--output", "json") as run:
        late: list[int] = []

        def begins() -> bool:
            late[:] = [child for child in children_of(run.pid) if "dnstrail_findings" in command_line(child)]
            return bool(late)

        wait_until(begins, "the worker of findings")
        os.kill(late[0], signal.SIGSTOP)
        try:
            assert any("has ended" in line for line in iter(run.stderr.readline, ""))
        finally:
            os.kill(late[0], signal.SIGCONT)
        shown = run.communicate(timeout=60)[0].splitlines()
    assert len(shown) > 10
    assert len((folder / "a").read_text().splitlines()) == len(shown)


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
