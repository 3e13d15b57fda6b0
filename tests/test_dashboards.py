"""The dashboard and the alerts ask for metrics that the workers have."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from prometheus_client import PROCESS_COLLECTOR

from builders.talk import there
from dnstrail.events import NET_PACKET_DNS
from dnstrail.image import Image
from dnstrail.process.clock import SystemClock
from dnstrail.protocol.batch_publisher import BatchPublisher
from dnstrail.protocol.lookups import GetRequest
from dnstrail.protocol.losses import LossReporter
from dnstrail.signature import EventSelector, Signature, SignatureMetadata
from dnstrail_cache.metrics import Resolvers, cache_metrics
from dnstrail_cache.state.cache_state import CacheState
from dnstrail_cache.state.health import STATUSES
from dnstrail_findings.explainer import Explainer
from dnstrail_findings.metrics import findings_metrics
from dnstrail_findings.targets import make_outputs, parse_target
from dnstrail_findings.worker import FindingsWorker
from dnstrail_probe.metrics import probe_metrics
from dnstrail_signatures.findings import Delivery
from dnstrail_signatures.loading.chosen import Chosen
from dnstrail_signatures.metrics import signature_metrics
from dnstrail_signatures.worker import SignatureWorker
from live.prometheus import ALERTS, CONFIG, dashboard_queries, promtool_or_skip
from live.workers import Messages

ROOT = Path(__file__).parents[1]
NAME = re.compile(r"\b(?:dnstrail|process)_\w+")
OF_PROMETHEUS = {"instance", "job", "le", "service"}


class Quiet(Signature):
    """Reports nothing."""

    metadata = SignatureMetadata("Q-1", "1", "Quiet", "QUIET")
    selected_events = (EventSelector(name=NET_PACKET_DNS),)


def families():
    """Return all families of all workers."""
    state = CacheState(Image(), SystemClock())
    state.note_answered(GetRequest(key="x"), 0.1)
    resolvers = Resolvers()
    resolvers.observe(there(), 0, 1)
    source = SimpleNamespace(losses={}, counters=Counter(packets=1))
    worker = SignatureWorker(Messages(), Chosen.of(Quiet), Delivery(print))
    yield from cache_metrics(state, resolvers)
    yield from probe_metrics(source, BatchPublisher(SimpleNamespace(), "s", live=True))
    yield from signature_metrics(worker)
    outputs = make_outputs([parse_target("stdout")])
    yield from findings_metrics(FindingsWorker(outputs, Explainer(None), LossReporter()))
    yield from PROCESS_COLLECTOR.collect()


def names():
    """Return the names under which Prometheus stores the metrics."""
    found = set()
    for family in families():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(family.type, [""])
        found |= {family.name + ending for ending in endings}
    return found | {"dnstrail_metrics_connections_closed_total"}


def alert_queries():
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def test_every_query_asks_for_real_metrics():
    """Each metric of the dashboard and the alerts is one that a worker exports."""
    known = names()
    queries = [*dashboard_queries(), *alert_queries()]
    assert len(queries) > 20
    assert {name for query in queries for name in NAME.findall(query)} - known == set()


def test_every_label_of_a_query_is_real():
    """Each label by which a query groups or selects is one of the metrics."""
    known = {label for family in families() for sample in family.samples for label in sample.labels}
    known |= OF_PROMETHEUS | {"event"}
    for query in [*dashboard_queries(), *alert_queries()]:
        grouped = re.findall(r"(?:by|on|group_left) \(([\w, ]+)\)", query)
        selected = re.findall(r"(\w+)=~?\"", query)
        assert {label for group in grouped for label in group.split(", ")} | set(selected) <= known, query


def test_the_alert_on_probes_names_real_statuses():
    """The statuses of the alert are statuses of `dnstrail health`."""
    (query,) = [query for query in alert_queries() if "probes_status" in query]
    assert set(re.search(r'status=~"([\w|]+)"', query)[1].split("|")) < set(STATUSES)


def test_every_panel_has_the_data_source_of_the_dashboard():
    """The dashboard works with whatever data source is selected, and its panels do not overlap."""
    panels = json.loads((ROOT / "deploy/grafana/dnstrail.json").read_text())["panels"]
    shown = [panel for panel in panels if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in shown} == {"${datasource}"}
    places = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.parametrize(("kind", "file"), [("rules", ALERTS), ("config", CONFIG)])
def test_promtool_accepts_the_files(kind, file):
    """Promtool finds no fault in the alerts and in the configuration of the containers."""
    done = subprocess.run([promtool_or_skip(), "check", kind, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("others", [0, 2])
@pytest.mark.parametrize(
    ("values", "fires"),
    [("1x200", False), ("1x40 0x160", True), ("1x40 0 0 stale _x160", True)],
    ids=["up", "silent", "without an address"],
)
def test_a_worker_that_ended_fires_its_alert(values, fires, others, tmp_path):
    """A worker fires while its target does not answer, and once Prometheus has none, as Docker's DNS forgets it.

    So does one of several of a service, but none that was replaced by another one, which began before it ended.
    """
    labels = {"job": "dnstrail", "service": "signatures"}
    instances = [{**labels, "instance": f"{number}:9153"} for number in range(others)]
    moved = {**labels, "service": "probe"}
    series = [
        {"series": f"up{{{_shown({**labels, 'instance': 'a:9153'})}}}", "values": values},
        *({"series": f"up{{{_shown(one)}}}", "values": "1x200"} for one in instances),
        {"series": f"up{{{_shown({**moved, 'instance': 'b:9153'})}}}", "values": "1x40 stale _x160"},
        {"series": f"up{{{_shown({**moved, 'instance': 'c:9153'})}}}", "values": "_x40 1x160"},
    ]
    expected = [{"exp_labels": {**labels, "severity": "critical"}}] if fires else []
    if "stale" not in values:
        expected = [{"exp_labels": {**one["exp_labels"], "instance": "a:9153"}} for one in expected]
    alert = {"eval_time": "30m", "alertname": "DnstrailWorkerDown", "exp_alerts": expected}
    case = {"interval": "15s", "input_series": series, "alert_rule_test": [alert]}
    rules = yaml.safe_load(ALERTS.read_text())
    for rule in rules["groups"][0]["rules"]:
        del rule["annotations"]
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "test.yml").write_text(yaml.safe_dump({"rule_files": ["alerts.yml"], "tests": [case]}))
    done = subprocess.run(
        [promtool_or_skip(), "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _shown(labels):
    return ",".join(f'{name}="{value}"' for name, value in labels.items())
