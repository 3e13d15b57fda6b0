"""The worker of findings over a real bus, and as a process with outputs."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builders.findings import body_of, cause_of, dns_answer, transaction
from builders.writers import Script
from dnstrail.bus import Pusher
from dnstrail.bus.ipc import findings_address
from dnstrail.client import LookupClient
from dnstrail.events import FINDINGS_LOST
from dnstrail.pipeline import children
from dnstrail_findings import output as output_module
from dnstrail_findings.formats import tracee
from dnstrail_findings.metrics import findings_metrics
from dnstrail_findings.output import Output
from dnstrail_findings.worker import LAST, FindingsWorker, run
from live.processes import dnstrail, run_dir, started, text_of
from live.webhook_server import OK, Server, serving
from live.workers import BOUND, cache, open_bus, running, short_folder, wait_until


class Sink:
    """A running worker with one output, and the end that pushes to it."""

    def __init__(self, script: Script, pusher: Pusher) -> None:
        self.script = script
        self.output = Output("test", tracee, script, rest=0.001)
        self.reported: list[dict[str, int]] = []
        self.worker: FindingsWorker | None = None
        self._pusher = pusher

    def push(self, *bodies: bytes) -> None:
        """Send messages as a signature worker does."""
        for body in bodies:
            assert self._pusher.push(body, wait=BOUND)

    @property
    def written(self) -> list[str]:
        """The ids of the findings that were written."""
        return [json.loads(line)["findingId"] for line in self.script.written]

    def values(self) -> dict[tuple[str, ...], float]:
        """Return the metrics by name and label."""
        assert self.worker is not None
        samples = (sample for family in findings_metrics(self.worker) for sample in family.samples)
        return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


@contextmanager
def sink() -> Iterator[Sink]:
    with short_folder() as folder, open_bus() as bus:
        made = Sink(Script(), bus.pusher(findings_address(folder)))

        def target(bus_: object, stop: threading.Event) -> None:
            run(
                bus_,
                bus_.puller(findings_address(folder)),
                [made.output],
                stop,
                report=lambda lost: made.reported.append(dict(lost)) or True,
                observe=lambda worker: setattr(made, "worker", worker),
            )

        with running(target):
            yield made


def test_each_finding_is_written_once() -> None:
    """A second report with the same id, a signal and garbage are not written, and the last is counted."""
    with sink() as made:
        made.push(body_of(id_="a"), body_of(id_="b"), body_of(id_="a"), b"\xc1garbage", b"\x81\xa6signal\xa1x")
        made.push(body_of(id_="c"))
        wait_until(lambda: made.output.counters["written"] == 3, "all findings")
        assert made.written == ["a", "b", "c"]
        values = made.values()
    assert values["dnstrail_findings_handled_total", "received"] == 4
    assert values["dnstrail_findings_handled_total", "duplicate"] == 1
    assert values["dnstrail_findings_handled_total", "unreadable"] == 1
    assert values["dnstrail_output_written_total", "test"] == 3


@pytest.mark.parametrize("name", ["a\\\u00b2.example", "\\\u0661\u0662\u0663.example", "\\1.example", "a\\", "\\999.x"])
def test_a_forged_name_ends_nothing(name: str) -> None:
    """A backslash before anything but three ASCII digits stands for what follows, and the worker goes on."""
    with sink() as made:
        made.push(body_of(transaction(name), id_="a"), body_of(id_="b"))
        wait_until(lambda: made.output.counters["written"] == 2, "both findings")


def test_what_an_output_loses_is_reported(monkeypatch) -> None:
    """Findings that an output lost are in the metrics, and are reported to the cache."""
    monkeypatch.setattr(output_module, "MAX_LINE", 100)
    with sink() as made:
        made.push(body_of())
        wait_until(lambda: made.reported == [{FINDINGS_LOST: 1}], "the report")
        assert made.values()["dnstrail_output_lost_total", "test"] == 1
        assert made.values()["dnstrail_output_waiting", "test"] == 0


def test_the_cache_adds_lost_findings_to_its_stats() -> None:
    """A cache accepts the report of lost findings, and shows it among the losses of the workers."""
    with short_folder() as folder, cache(folder) as address, open_bus() as bus:
        client = LookupClient(address, bus=bus, timeout=BOUND)
        assert client.report_losses("findings x", {FINDINGS_LOST: 2})
        assert client.request("stats")["data"]["lost"]["workers"] == {FINDINGS_LOST: 2}


class Late:
    """A bus whose messages arrive one by one, each after a wait; it is its own puller."""

    def __init__(self, *bodies: bytes) -> None:
        self._coming = deque(bodies)
        self._arrived: deque[bytes] = deque()

    def wait(self, _puller: object, timeout: float) -> None:
        """Let the next message arrive."""
        assert timeout > 0
        if self._coming:
            self._arrived.append(self._coming.popleft())

    def receive(self) -> bytes | None:
        """Return the next message that has arrived."""
        return self._arrived.popleft() if self._arrived else None


def test_what_arrives_soon_after_the_stop_is_written() -> None:
    """A sender that is stopped first has findings on their way."""
    late, stop = Late(*(body_of(id_=name) for name in "abc")), threading.Event()
    stop.set()
    script = Script()
    run(late, late, [Output("test", tracee, script)], stop)
    assert [json.loads(line)["findingId"] for line in script.written] == ["a", "b", "c"]


def test_a_fault_of_an_output_ends_the_worker() -> None:
    """A fault in a thread is raised by the main loop, so that the worker is started anew."""

    def fail() -> None:
        with sink() as made:
            made.script.fault = ValueError("a fault")
            made.push(body_of())
            wait_until(lambda: made.output.error is not None, "the fault")

    with pytest.raises(ValueError, match="a fault"):
        fail()


def push_to_process(folder: Path, *ids: str) -> None:
    """Send findings to the process that binds the socket of a folder."""
    wait_until((folder / "findings.sock").exists, "the socket")
    with open_bus() as bus:
        pusher = bus.pusher(findings_address(folder))
        wait_until(lambda: pusher.connected, "the connection")  # a closed bus waits three seconds for it
        for name in ids:
            assert pusher.push(body_of(cause_of(dns_answer()), name), wait=BOUND)


@contextmanager
def anybodys_folder() -> Iterator[Path]:
    """Make a folder in which the user of the worker can make files."""
    with short_folder() as folder:
        folder.chmod(0o777)
        yield folder


def stop(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    return process.communicate(timeout=BOUND)[1]


def received(server: Server) -> list[str]:
    bodies = [request.partition(b"\r\n\r\n")[2] for request in server.requests]
    return [each["finding_info"]["uid"] for body in bodies for each in json.loads(body)]


def test_a_killed_sink_delivers_its_spool_after_a_restart() -> None:
    """Findings that a webhook did not take survive kill -9 in the spool, and each is delivered once afterwards."""
    ids = [f"f{number}" for number in range(40)]
    with run_dir() as folder, anybodys_folder() as place, serving(OK) as server:
        spool = place / "spool"
        options = ("--cache", "none", "--run-dir", folder, "--to")
        away = f"webhook:http://127.0.0.1:1/,format=ocsf,spool={spool}"
        with started("findings", *options, away) as process:
            push_to_process(folder, *ids)
            wait_until(lambda: spooled(spool) == len(ids), "all findings in the spool")
            process.kill()
            (folder / "findings.sock").unlink()
        back = f"webhook:http://127.0.0.1:{server.port}/,format=ocsf,spool={spool}"
        with started("findings", *options, back) as process:
            wait_until(lambda: len(received(server)) >= len(ids), "the findings of the spool")
            push_to_process(folder, "new")
            wait_until(lambda: len(received(server)) > len(ids), "the new finding")
            stop(process)
        assert received(server) == [*ids, "new"]
        assert spooled(spool) == 0


def spooled(folder: Path) -> int:
    names = [path.stem for path in folder.glob("*.lines")] if folder.is_dir() else []
    return sum(int(name.partition("-")[2]) for name in names)


def test_a_run_waits_for_its_outputs() -> None:
    """A run kills the worker of findings only after the time in which its outputs write or spool what waits."""
    assert LAST + output_module.PATIENCE < children._GRACE


def test_a_process_writes_to_several_outputs() -> None:
    """One process writes each finding to a file and to stdout, in their formats, and logs its counters at the end."""
    with run_dir() as folder, anybodys_folder() as place:
        file = place / "findings.jsonl"
        outputs = ("--to", f"file:{file}", "--to", "stdout,format=text")
        with started("findings", "--cache", "none", "--run-dir", folder, *outputs) as process:
            push_to_process(folder, "a", "b")
            wait_until(lambda: text_of(file).count("\n") == 2, "both findings")
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=BOUND)
    assert [line.split()[3] for line in out.splitlines()] == ["id=a", "id=b"]
    stopped = json.loads(err.splitlines()[-1])
    assert (stopped["event"], stopped["received"], stopped["outputs"]["file"]["written"]) == ("stopped", 2, 2)


def test_a_wrong_output_ends_the_command() -> None:
    """A wrong output exits with 2 and one line that names the reason."""
    with run_dir() as folder:
        done = dnstrail("findings", "--run-dir", folder, "--to", "webhook:http://siem.example/")
    assert done.returncode == 2
    assert "use https" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_reader_of_stdout_ends_the_worker() -> None:
    """If stdout is the only output, and its reader has gone, the worker ends with 0."""
    with run_dir() as folder, started("findings", "--cache", "none", "--run-dir", folder) as process:
        process.stdout.close()
        push_to_process(folder, "a")
        assert process.wait(BOUND) == 0
