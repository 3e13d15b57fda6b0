"""The worker of findings: receives them, drops second reports, explains them, and gives each to every output."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence

import structlog

from dnstrail.bus import Bus, Puller
from dnstrail.client import LookupClient
from dnstrail.errors import BadMessage
from dnstrail.events import FINDINGS_LOST
from dnstrail.protocol.losses import LossReporter
from dnstrail_findings.explainer import Explainer
from dnstrail_findings.finding import read_finding
from dnstrail_findings.output import Output, check_outputs, close_outputs

MOST = 65_536  #: ids of findings that are known -> the oldest is forgotten: its second report is written
_POLL = 0.2  # seconds between two checks of the stop signal
#: seconds for which `dnstrail findings` waits after its stop for findings on their way -> later ones are lost
LAST = 1.0
_AT_ONCE = 4000  # messages between two checks: as many as wait at the bus


class SeenIds:
    """The ids that were seen last. Beyond MOST the oldest is forgotten."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, finding: str) -> bool:
        """Note an id; return False if it was seen before. An empty id is always new."""
        if not finding:
            return True
        if finding in self._ids:
            return False
        self._ids[finding] = None
        if len(self._ids) > MOST:
            self._ids.popitem(last=False)
        return True


def run(
    bus: Bus,
    puller: Puller,
    outputs: Sequence[Output],
    stop: threading.Event,
    *,
    lookups: LookupClient | None = None,
    report: Callable[[Mapping[str, int]], bool] = lambda _: True,
    beat: Callable[[], None] = lambda: None,
    observe: Callable[[FindingsWorker], None] = lambda _: None,
) -> None:
    """Write findings to the outputs until the stop signal is set, or no output is left.

    `lookups` explain findings. `report` sends the number of lost findings to the cache. `beat` is called while the loop
    runs, and `observe` once before it.

    Raises:
        Exception: The thread of an output failed by a fault of dnstrail.
    """
    worker = FindingsWorker(outputs, Explainer(lookups), LossReporter(report))
    observe(worker)
    for output in outputs:
        output.start()
    log = structlog.get_logger()
    log.info("ready", outputs=[output.name for output in outputs])
    try:
        while not stop.is_set() and worker.goes_on:
            worker.check()
            beat()
            bus.wait(puller, timeout=_POLL)
            _take(puller, worker, beat)
            worker.on_idle(time.monotonic())
        end = time.monotonic() + LAST
        while worker.goes_on and time.monotonic() < end:
            bus.wait(puller, timeout=_POLL)
            if not _take(puller, worker, beat):
                break
    finally:
        worker.close()
    worker.check()
    log.info("stopped", **worker.counters, outputs={output.name: dict(output.counters) for output in outputs})


def _take(puller: Puller, worker: FindingsWorker, beat: Callable[[], None]) -> bool:
    """Handle the findings that have arrived; return whether there were any."""
    taken = 0
    while taken < _AT_ONCE and (body := puller.receive()) is not None:
        beat()
        worker.on_finding(body)
        taken += 1
    return taken > 0


class FindingsWorker:
    """The state of one run. `counters` counts findings `received`, `duplicate` and `unreadable`."""

    def __init__(self, outputs: Sequence[Output], explainer: Explainer, losses: LossReporter) -> None:
        self.outputs = outputs
        self.explainer = explainer
        self.counters: Counter[str] = Counter(received=0, duplicate=0, unreadable=0)
        self._losses = losses
        self._seen = SeenIds()

    @property
    def goes_on(self) -> bool:
        """True while an output wants findings."""
        return any(not output.ended for output in self.outputs)

    def check(self) -> None:
        """Raise the error that ended the thread of an output.

        Raises:
            Exception: It is a fault of dnstrail.
        """
        check_outputs(self.outputs)

    def on_finding(self, body: bytes) -> None:
        """Handle one message from the bus."""
        try:
            finding = read_finding(body)
        except BadMessage as error:
            self.counters["unreadable"] += 1
            structlog.get_logger().warning("bad_bus_message", error=str(error))
            return
        if finding is None:
            return
        self.counters["received"] += 1
        if not self._seen.add(finding.id):
            self.counters["duplicate"] += 1
            return
        self.explainer.explain(finding)
        for output in self.outputs:
            output.add(finding)

    def on_idle(self, now: float) -> None:
        """Report the losses."""
        self._losses.note(self._lost(), now)

    def close(self) -> None:
        """Close the outputs at the same time, and report the last losses."""
        close_outputs(self.outputs)
        self._losses.close(self._lost())

    def _lost(self) -> dict[str, int]:
        lost = sum(output.lost for output in self.outputs)
        return {FINDINGS_LOST: lost} if lost else {}
