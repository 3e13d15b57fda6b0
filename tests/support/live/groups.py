"""Groups of real signature workers: processes that share the events of a probe which a test plays."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path

import dnstrail_probe
from dnstrail.bus.ipc import lookups_address
from dnstrail.captured import Captured, Flow
from dnstrail.client import LookupClient
from dnstrail.dns import decode, is_response
from dnstrail.events import NET_PACKET_DNS
from dnstrail_probe.sources.capture_file import CaptureFileSource
from live.processes import started, wait_until
from live.workers import BOUND

CLIENTS = 300
SIGNATURE = """
from dnstrail import EventSelector, Signature, SignatureMetadata

class Answered(Signature):
    metadata = SignatureMetadata(id="T-1", version="1", name="Answered", event_name="ANSWERED")
    selected_events = (EventSelector(name="net_packet_dns"),)

    def on_event(self, event):
        if event.question and event.answers:
            self.report(event, number=event.captured.processor, client=event.arg("dst"))
"""


@cache
def answers() -> tuple[bytes, ...]:
    """Return the answers of the capture that ships with dnstrail."""
    source = CaptureFileSource(str(Path(dnstrail_probe.__file__).parent / "sources/demo.pcap"))
    payloads = []
    while (read := source.read(0.0)) is not None:
        payloads += [event.payload for name, event in read if name == NET_PACKET_DNS and is_response(event.payload)]
    source.close()
    return tuple(payload for payload in payloads if decode(payload).answers)


def events(first: int, count: int, clients: int = CLIENTS, now: int | None = None) -> list[Captured]:
    """Return events of answers to some clients, from a time on; each has a number, in the place of its processor."""
    payloads, since = answers(), first * 1000 if now is None else now
    return [
        Captured(
            since + (number - first) * 1000,
            payloads[number % len(payloads)],
            Flow(b"\x08" * 4, 53, bytes((10, 0, *divmod(number % clients, 256))), 40000),
            processor=number,
        )
        for number in range(first, first + count)
    ]


class Group:
    """Signature workers on one run-dir. Each writes its findings to a file of its own."""

    def __init__(self, folder: Path, stack: ExitStack, signature: str = SIGNATURE) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self._stack = stack
        self.signature = folder.parent / "answered.py"
        self.signature.write_text(signature)
        self.signature.chmod(0o644)
        self._client = LookupClient(lookups_address(folder), timeout=BOUND)
        stack.callback(self._client.close)

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        """Start a worker."""
        number = len(self.processes)
        command = [sys.executable, "-P", "-m", "dnstrail_signatures", "--run-dir", str(self.folder)]
        command += ["--signatures", str(self.signature), "--select", "ANSWERED", *options]
        out = self._stack.enter_context(self._out(number).open("wb"))
        err = self._stack.enter_context(self._out(number).with_suffix(".err").open("wb"))
        process = subprocess.Popen(command, stdout=out, stderr=err)
        self._stack.callback(_end, process)
        self.processes.append(process)
        return process

    def members(self) -> dict[str, dict]:
        """Return the counters of the members of all groups, by name."""
        groups = self._client.request("stats")["data"]["groups"]
        return {name: member for group in groups.values() for name, member in group["members"].items()}

    def await_members(self, count: int) -> None:
        """Wait until the group has so many living members."""
        wait_until(lambda: len(self.members()) == count, f"{count} members")

    def findings(self, worker: int) -> list[dict]:
        """Return the findings of a worker so far."""
        lines = self._out(worker).read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def all_findings(self) -> list[dict]:
        """Return the findings of all workers so far."""
        return [finding for worker in range(len(self.processes)) for finding in self.findings(worker)]

    def count(self, worker: int) -> int:
        """Return the number of findings of a worker so far."""
        return self._out(worker).read_bytes().count(b"\n") if worker < len(self.processes) else 0

    def await_findings(self, count: int) -> list[dict]:
        """Wait until so many events were found, and return the findings of all workers."""
        found: list[dict] = []

        def complete() -> bool:
            if sum(map(self.count, range(len(self.processes)))) >= max(count, len(found) + 1):
                found[:] = self.all_findings()
            return len(numbers(found)) >= count

        wait_until(complete, f"{count} findings")
        return found

    def log(self, worker: int) -> str:
        """Return the log of a worker."""
        return self._out(worker).with_suffix(".err").read_text()

    def _out(self, number: int) -> Path:
        return self.folder.parent / f"worker-{number}"


def numbers(findings: list[dict]) -> dict[str, int]:
    """Return the number of the event of each finding, by the id of the finding."""
    return {
        finding["findingId"]: next(arg["value"] for arg in finding["args"] if arg["name"] == "number")
        for finding in findings
    }


@contextmanager
def group(
    folder: Path, workers: int, *, signature: str = SIGNATURE, cache: bool = True, options: Iterable[str] = ()
) -> Iterator[Group]:
    """Run a cache, unless the test runs it, and some signature workers, all of which are members."""
    with started("cache", "--run-dir", folder) if cache else nullcontext(), ExitStack() as stack:
        made = Group(folder, stack, signature)
        for _ in range(workers):
            made.start(*options)
        wait_until((folder / "lookups.sock").exists, "the cache")
        made.await_members(workers)
        yield made


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
