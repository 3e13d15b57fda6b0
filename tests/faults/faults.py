"""Strike a running pipeline with faults, and measure what each of them costs (`make faults`).

The workers are real processes with a supervisor, and receive real dnstap, 200 answers a second. With --short the
program runs a part of the faults, for less time. It exits with 1 if a promise is broken: a message is lost and not
counted, a finding is missing and not counted, an event has findings of several ids, or a worker does not recover.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from lookup_watch import STUCK
from outcome import Outcome, heading, together
from pipeline_under_load import Pipeline, pipeline
from trials import Fault, Trial, faults

_PRIVATE = "DNSTRAIL_FAULTS_PRIVATE"  # is set in the mount namespace of this program
_LOOK = 0.2  # seconds between two looks at the outcome
_STABLE = 10.0  # seconds without a further message or finding, after which none is on its way
_SETTLED = 90.0  # seconds for the last messages and counters


def main() -> int:
    """Run the faults and print the table."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--short", action="store_true", help="a part of the faults, in two minutes")
    options.add_argument("--only", default="", help="the faults whose names contain this")
    given = options.parse_args()
    enter_mount_namespace()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that processes end
    broken: list[str] = []
    chosen = [one for one in faults() if given.only in one.name and (one.short or not given.short)]
    with pipeline() as running:
        print(f"{time.strftime('%Y-%m-%d')}, {'the short form' if given.short else 'all faults'}\n\n{heading()}")
        for name, alike in groupby(chosen, key=lambda fault: fault.together or fault.name):
            outcomes = [measure(running, fault, short=given.short) for fault in alike]
            print(together(name, outcomes).row(), flush=True)
            broken += [f"{one.fault}: {fault}" for one in outcomes for fault in one.faults]
    print("\n" + ("\n".join(broken) or "Every promise held."))
    return 1 if broken else 0


def enter_mount_namespace() -> None:
    """Run this program in a mount namespace of its own: its disk goes with it."""
    if os.geteuid() == 0 and _PRIVATE not in os.environ:
        os.environ[_PRIVATE] = "1"
        os.execvp("unshare", ["unshare", "--mount", sys.executable, *sys.argv])


def measure(running: Pipeline, fault: Fault, *, short: bool) -> Outcome:
    """Strike once, wait until the pipeline works again and has counted everything, and return the outcome."""
    with running.quiet():  # whatever was sent has arrived
        running.await_found(running.load.sent - 1)
        first, before = running.load.sent, running.counters.total()
    running.await_sent(100)
    running.watch.begin()
    trial = Trial(running, short)
    fault.strike(trial)
    since, number = trial.over or (time.monotonic(), running.load.sent)
    recovery = running.await_all(number) - since
    with running.quiet():
        numbers = range(first, running.load.sent)
        settle(lambda: outcome_of(trial, fault, numbers, before, recovery))
        return outcome_of(trial, fault, numbers, before, recovery)


def settle(look: Callable[[], Outcome]) -> None:
    """Wait until nothing is on its way, and whatever is lost was counted; return after _SETTLED in any case."""
    end = time.monotonic() + _SETTLED
    last, since = look(), time.monotonic()
    while time.monotonic() < end and not (last.whole or (time.monotonic() - since > _STABLE and not last.faults)):
        time.sleep(_LOOK)
        now = look()
        if now.arrived != last.arrived:
            since = time.monotonic()
        last = now


def outcome_of(trial: Trial, fault: Fault, numbers: range, before: Counter[str], recovery: float) -> Outcome:
    """Return the outcome as it is now."""
    running = trial.pipeline
    grown = running.counters.total() - before
    found = running.counters.found(numbers) if not trial.further else set()
    missing = running.found.missing(numbers)
    return Outcome(
        fault=f"{fault.name}: {trial.extent}" if trial.extent else fault.name,
        recovery=recovery,
        sent=len(numbers) + trial.further,
        received=grown["messages"] if trial.further else len(found),
        counted=grown["bus"] + grown["at_probe"],
        vanished=grown["vanished"] if fault.probe else 0,
        asked=running.watch.asked,
        failed=running.watch.failed,
        stuck=running.watch.without_answer > STUCK and not fault.away,
        missing=len(missing & found if found else missing),
        counted_findings=grown["workers"],
        lost_turns=grown["handover"],
        twice=running.found.twice(numbers),
        several_ids=len(running.found.several_ids(numbers)),
        not_found=len(running.found.not_found.intersection(numbers)),
        broken=tuple(trial.broken),
    )


if __name__ == "__main__":
    sys.exit(main())
