"""A real Prometheus, as deploy/setup-prometheus.sh unpacks it, and the queries of the dashboard."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from live.namespaces import skip
from live.processes import PATIENCE, wait_until

_ROOT = Path(__file__).parents[3]
ALERTS = _ROOT / "deploy/prometheus/alerts.yml"
CONFIG = _ROOT / "deploy/prometheus/prometheus.yml"
_BIN = _ROOT / ".prometheus/root/usr/bin"
_CONFIG = """
global: {{scrape_interval: 500ms, evaluation_interval: 200ms}}
rule_files: [alerts.yml]
scrape_configs: [{{job_name: dnstrail, static_configs: [{{targets: {targets}}}]}}]
"""


def promtool_or_skip() -> Path:
    """Return the path of promtool."""
    return _unpacked("promtool")


def _unpacked(name: str) -> Path:
    if not (_BIN / name).exists():
        skip(f"no {name} here: deploy/setup-prometheus.sh unpacks it")
    return _BIN / name


def dashboard_queries() -> list[str]:
    """Return the queries of all panels of the dashboard."""
    panels = json.loads((_ROOT / "deploy/grafana/dnstrail.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of a reply."""
        url = f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as reply:
            return json.load(reply)["data"]

    def query(self, expression: str) -> list[Any]:
        """Return the result of a query."""
        found: list[Any] = self.get("query", query=expression)["result"]
        return found

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {one["labels"]["alertname"] for one in self.get("alerts")["alerts"] if one["state"] == "firing"}


@contextmanager
def prometheus(folder: Path, targets: list[str]) -> Iterator[Prometheus]:
    """Run Prometheus over these targets, with the alerts of deploy/, which fire at once here."""
    program = _unpacked("prometheus")
    (folder / "prometheus.yml").write_text(_CONFIG.format(targets=json.dumps(targets)))
    lines = [line for line in ALERTS.read_text().splitlines() if not line.strip().startswith("for:")]
    (folder / "alerts.yml").write_text("\n".join(lines))
    command = [program, "--config.file", folder / "prometheus.yml", "--storage.tsdb.path", folder / "data"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, "--web.listen-address=127.0.0.1:0"], stdout=log, stderr=log, cwd=folder)

    def port() -> int:
        found = re.search(r'"Listening on" address=127.0.0.1:(\d+)', (folder / "log").read_text())
        return int(found[1]) if found else 0

    def answers() -> bool:
        try:
            return bool(Prometheus(port()).get("targets")["activeTargets"])
        except OSError:
            return False

    try:
        wait_until(port, "the port of Prometheus")
        wait_until(answers, "Prometheus")
        yield Prometheus(port())
    finally:
        process.terminate()
        process.wait(PATIENCE)
