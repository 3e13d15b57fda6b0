"""Entries of the log go to outputs: files, webhooks and Kafka, also those of the past that are more than a queue holds.

Tests of dnstrail_cli.log_formats.outputs.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from builders.facts import BEGIN, SECOND, fact_of, stage_of
from builders.log_entries import fill, live
from builders.writers import Numbered, Script
from dnstrail_cli.log_formats import outputs as outputs_module
from dnstrail_cli.log_formats.outputs import OutputsPrinter
from dnstrail_findings import output as output_module
from dnstrail_findings.backlog import MOST_LINES
from dnstrail_findings.output import Output
from dnstrail_findings.spool import Spool
from live.kafka_cluster import kafka_cluster
from live.processes import dnstrail, started
from live.webhook_server import serving
from live.workers import BOUND, wait_until

SOME = (
    *(fact_of(number, ended=BEGIN + number, name=f"n{number}.example", relations=()) for number in range(20)),
    stage_of(20, "end", time=BEGIN + SECOND, why="closed", lasted=SECOND, name="web.example"),
)
ENTRY = live(SOME[0])
ACCEPTED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
AWAY = "webhook:http://127.0.0.1:1/"
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # also in the background
STOPPED = f"""
from dnstrail_cli import log
from dnstrail_cli.log_formats import outputs
log._follow = lambda *_: None
outputs.STALLED = {2 * BOUND}
"""
SHORT_WAIT = "from dnstrail_cli.log_formats import outputs; outputs.STALLED = 0.5"
SMALL_QUEUE = f"{INTERRUPTIBLE}; from dnstrail_findings import backlog; backlog.MOST_LINES = 10"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a history of twenty questions and a connection."""
    found = tmp_path_factory.mktemp("outputs") / "history"
    fill(found, SOME)
    return found


def sent(folder: Path, *arguments: object, code: int = 0) -> str:
    """Run the command on a history, and return what it wrote."""
    done = dnstrail("log", "--folder", folder, *arguments)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["json", "zeek-json", "ecs", "ocsf"])
@pytest.mark.parametrize("kind", [(), ("--connections",)], ids=("questions", "connections"))
def test_a_file_has_the_lines_of_stdout(folder: Path, tmp_path: Path, name: str, kind: tuple[str, ...]) -> None:
    """An output has the lines that the command prints without it, and nothing is printed."""
    chosen = (*kind, "--output", name)
    assert sent(folder, *chosen, "--to", f"file:{tmp_path}/lines") == ""
    assert (tmp_path / "lines").read_text() == sent(folder, *chosen)


def test_otlp_receives_the_entries(folder: Path) -> None:
    """Each entry is a record of OTLP with its time, its event and its id."""
    with serving(ACCEPTED) as server:
        assert sent(folder, "--to", f"webhook:http://127.0.0.1:{server.port}/v1/logs,preset=otlp") == ""
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in server.requests]
    records = [one for body in bodies for one in body["resourceLogs"][0]["scopeLogs"][0]["logRecords"]]
    assert [int(one["timeUnixNano"]) for one in records] == [BEGIN + number for number in range(20)]
    assert {one["eventName"] for one in records} == {"dns_transaction"}
    assert len({json.loads(one["body"]["stringValue"])["id"] for one in records}) == 20


def test_the_past_waits_for_room(tmp_path: Path) -> None:
    """More entries than a queue holds reach Kafka, each once."""
    total, past = MOST_LINES + 2_000, tmp_path / "history"
    fill(past, (fact_of(one, ended=BEGIN + one, name="a.example", relations=()) for one in range(total)))
    with kafka_cluster() as cluster:
        assert sent(past, "--to", f"kafka:127.0.0.1:{cluster.port}/facts") == ""
        found = [json.loads(one)["id"] for one in cluster.read("facts")]
    assert (len(found), len({*found})) == (total, total)


def test_the_past_waits_for_room_in_the_spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a receiver is away, the past does not displace its own oldest entries from the spool."""
    monkeypatch.setattr(output_module, "LONGEST_REST", 0.01)
    script, counters = Script(), Counter[str]()
    script.fault = OSError("away")
    spool = Spool(tmp_path / "spool", 2_000, counters)
    output = Output("test", Numbered(40), script, spool, counters, rest=0.001)
    printer = OutputsPrinter([output])
    printing = threading.Thread(target=lambda: [printer.print(ENTRY) for _ in range(200)], daemon=True)
    printing.start()
    wait_until(lambda: output.waiting >= 20 and counters["failures"] >= 100, "a spool that is half full")
    script.fault = None
    printing.join(BOUND)
    wait_until(lambda: not output.waiting, "all entries")
    printer.close()
    assert (output.lost, len(script.written)) == (0, 200)


class Slow(Script):
    """A writer that needs some milliseconds for each batch of two lines."""

    def write(self, lines: Sequence[bytes]) -> None:
        """Write late."""
        time.sleep(0.005)
        super().write(lines)


def test_the_end_of_the_past_waits_for_a_slow_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a receiver takes entries of the past, the end waits, however long that takes in all."""
    monkeypatch.setattr(output_module, "PATIENCE", 0.05)
    script = Slow()
    output = Output("test", Numbered(), script)
    printer = OutputsPrinter([output])
    for _ in range(200):
        printer.print(ENTRY)
    printer.close()
    assert (output.lost, len(script.written)) == (0, 200)


@pytest.mark.parametrize("is_cut", [False, True])
def test_the_end_waits_in_vain_for_nobody(monkeypatch: pytest.MonkeyPatch, is_cut: bool) -> None:
    """The end waits for no receiver that stands still, nor after an error or a signal."""
    monkeypatch.setattr(output_module, "PATIENCE", 0.05)
    monkeypatch.setattr(outputs_module, "STALLED", BOUND if is_cut else 0.05)
    script = Script()
    script.goes_on.clear()
    output = Output("test", Numbered(), script)
    printer = OutputsPrinter([output])
    for _ in range(5):
        printer.print(ENTRY)
    began = time.monotonic()
    with pytest.raises(click.exceptions.Exit):
        printer.close(is_cut=is_cut)
    assert time.monotonic() - began < BOUND / 2
    assert output.lost == 5
    script.goes_on.set()


def test_an_error_after_the_past_loses_nothing_silently(folder: Path) -> None:
    """If `--follow` finds no cache, what waits of the past is tried once more, and counted; the error is reported."""
    said = sent(folder, "--follow", "--since", "0", "--to", AWAY, code=3)
    assert "dnstrail: webhook: 20 entries were lost\nError: no cache answered" in said


def test_a_stop_before_the_first_live_entry_waits_for_nobody(folder: Path) -> None:
    """If `--follow` is stopped at once, the end does not wait until a slow receiver has the past."""
    with started("log", "--folder", folder, "--follow", "--since", "0", "--to", AWAY, before=STOPPED) as command:
        _, said = command.communicate(timeout=BOUND)
    assert command.returncode == 4
    assert "20 entries were lost" in said


@pytest.mark.parametrize("body", [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", ACCEPTED])
def test_an_export_that_lost_entries_fails(folder: Path, tmp_path: Path, body: bytes) -> None:
    """The exit code is 4 if one of several outputs lost entries, and stderr has their number."""
    file, is_lost = tmp_path / "lines", body is not ACCEPTED
    with serving(body) as server:
        to = ("--to", f"file:{file}", "--to", f"webhook:http://127.0.0.1:{server.port}/")
        said = sent(folder, *to, code=4 if is_lost else 0)
    assert ("dnstrail: webhook: 20 entries were lost" in said) == is_lost
    assert file.read_text().count("\n") == 20


def test_what_waits_in_a_spool_is_stated(folder: Path, tmp_path: Path) -> None:
    """Entries that a spool keeps are not lost: stderr has their number, and the next run sends them."""
    to = f"{AWAY},spool={tmp_path}/spool"
    with started("log", "--folder", folder, "--to", to, before=SHORT_WAIT) as command:
        _, said = command.communicate(timeout=BOUND)
    assert (command.returncode, "webhook: 20 entries wait in the spool" in said, "lost" in said) == (0, True, False)
    with serving(ACCEPTED) as server:
        to = f"webhook:http://127.0.0.1:{server.port}/,spool={tmp_path}/spool"
        assert sent(folder, "--last", "1", "--to", to) == ""
    assert sum(len(json.loads(request.partition(b"\r\n\r\n")[2])) for request in server.requests) == 21


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("before", [SMALL_QUEUE, INTERRUPTIBLE], ids=["in the past", "at its end"])
def test_a_signal_loses_nothing_silently(folder: Path, before: str, number: signal.Signals) -> None:
    """A signal ends a command that waits for an output; the entries that are not sent are counted."""
    with started("log", "--folder", folder, "--to", AWAY, before=before) as command:
        assert "output_failed" in command.stderr.readline()
        command.send_signal(number)
        _, said = command.communicate(timeout=BOUND)
    assert command.returncode == 130
    assert "entries were lost" in said


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--to", "stdout"), "write file:PATH"),
        (("--to", "pub:ipc:///tmp/x.sock"), "write file:PATH"),
        (("--to", "file:x,format=ecs"), "--output names the format"),
        (("--to", "file:x", "--output", "zeek"), "write --output json, zeek-json, ecs, ocsf"),
        (("--to", "webhook:https://a.example/,preset=slack"), "it takes findings alone"),
        (("--to", "webhook:https://a.example/,preset=elastic"), "it takes --output ecs"),
        (("--to", "kafka:a.example"), "HOST"),
        (("--to", "file:/nowhere/x"), "No such file"),
    ],
    ids=str,
)
def test_an_output_that_takes_no_facts_is_refused(folder: Path, arguments: tuple[str, ...], fault: str) -> None:
    """An output that would lose the entries, or change their format, is refused before the first one."""
    assert fault in sent(folder, *arguments, code=2)
