"""A real Prometheus scrapes all workers, answers the queries of the dashboard, and fires the alerts."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from builders.dnstap_builders import START, WHOLE, Writer, framed, tap
from builders.talk import answer, query
from dnstrail.bus.ipc import lookups_address
from live.processes import metrics_port, run_dir, started, wait_until
from live.prometheus import Prometheus, dashboard_queries, prometheus
from live.workers import asker

WATCHED = "updates.example"  # a name of the bundled watch list


@dataclass(frozen=True)
class Stack:
    """Running workers with their Prometheus."""

    prometheus: Prometheus
    folder: Path
    probe: subprocess.Popen[str]


@contextmanager
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Run all workers over a dnstap socket, and Prometheus over their metrics."""
    with run_dir() as folder, ExitStack() as running:

        def start(*words: str | Path) -> subprocess.Popen[str]:
            return running.enter_context(started(*words, "--run-dir", folder, "--metrics", "0"))

        listeners = [start("cache"), start("signatures")]
        probe = start("probe", "--capture", f"dnstap:{folder}/dnstap.sock", "--subscribers", "2")
        targets = [f"127.0.0.1:{metrics_port(worker)}" for worker in (*listeners, probe)]
        wait_until((folder / "dnstap.sock").exists, "the socket")
        found = running.enter_context(prometheus(tmp_path, targets))
        yield Stack(found, folder, probe)


def resolve(stack: Stack, name: str, number: int) -> None:
    """Send a query and its answer by dnstap, and look the name up."""
    now = int(time.time())
    ends = {**WHOLE, "query_time_sec": now, "response_time_sec": now}
    asked = tap("CLIENT_QUERY", query_message=query(name, id_=number), **ends)
    answered = tap(response_message=answer(name=name, id_=number), **ends)
    writer = Writer(stack.folder / "dnstap.sock")
    with closing(writer.socket), asker(lookups_address(stack.folder)) as client:
        writer.send(START + framed(asked, answered))
        wait_until(lambda: client.ask("get", key=name)["ok"], "the name")


def test_prometheus_scrapes_all_workers_and_alerts(tmp_path):
    """Every worker is up, every query of the dashboard has a result, and a probe that is killed fires its alert.

    A worker of a busy host can answer too late for a scrape, and has no values then.
    """
    with stack(tmp_path) as running:
        found = running.prometheus

        def those_of(expression: str) -> list[str]:
            return [one["metric"]["instance"] for one in found.query(expression)]

        wait_until(lambda: [one["value"][1] for one in found.query("up")] == ["1"] * 3, "all workers")
        resolve(running, WATCHED, 1)
        wait_until(lambda: "DnstrailProbeSilent" not in found.firing(), "no alert")
        queries = [one.replace("$__rate_interval", "1m") for one in dashboard_queries()]
        wait_until(lambda: all(found.query(query) for query in queries), "a result of each query")
        wait_until(lambda: found.query("sum(dnstrail_events_total) > 0"), "events")
        probes: list[str] = []
        wait_until(lambda: probes.extend(those_of('dnstrail_build_info{worker="probe"}')) or probes, "the probe")
        running.probe.send_signal(signal.SIGKILL)
        wait_until(lambda: {"DnstrailProbeSilent", "DnstrailWorkerDown"} <= found.firing(), "the alerts")
        wait_until(lambda: those_of("up == 0") == probes, "the worker that is down")
