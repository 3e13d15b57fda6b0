from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dnstrail.process.heartbeat import SILENCE
from dnstrail_cli.__main__ import main_command

UNITS = sorted((Path(__file__).parents[1] / "deploy/systemd").glob("*.service"))
COMPOSE = Path(__file__).parents[1] / "docker-compose.yml"
PREFIX = "/opt/dnstrail/bin/dnstrail"


def service(unit, section="Service"):
    parser = configparser.ConfigParser(interpolation=None, delimiters="=")
    parser.optionxform = str
    parser.read(unit)
    return parser[section]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_starts_a_worker(unit):
    """Each unit starts a worker with valid options, as the service user, within a memory limit."""
    read = service(unit)
    program, worker, *options = read["ExecStart"].split()
    assert program == PREFIX
    assert unit.stem == f"dnstrail-{worker}"
    main_command.get_command(None, worker).make_context(worker, options, resilient_parsing=False)
    assert (read["User"], read["Group"], read["NoNewPrivileges"]) == ("dnstrail", "dnstrail", "yes")
    assert read["MemoryMax"]
    assert read["Type"] == "notify"
    assert int(read["WatchdogSec"]) > SILENCE
    assert read["Environment"] == f"DNSTRAIL_RUN_DIR=/run/{read['RuntimeDirectory']}"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_restarts_its_worker_each_time(unit):
    """A worker that exceeds its memory limit comes back, however often that happens."""
    read = service(unit)
    assert (read["Restart"], int(read["RestartSec"])) == ("on-failure", 1)
    assert service(unit, "Unit")["StartLimitIntervalSec"] == "0"
    assert "OOMPolicy" not in read  # by default the end of the process ends the unit, with a failure


def test_a_container_restarts_within_its_memory_limit():
    """The compose file limits memory and swap of each container together, and restarts what ends."""
    worker = COMPOSE.read_text().partition("x-worker:")[2].partition("services:")[0]
    assert {"mem_limit: 1g", "memswap_limit: 1g", "restart: unless-stopped"} <= set(map(str.strip, worker.splitlines()))


def test_only_the_probe_has_capabilities():
    """The probe has the capabilities that its sources need, and the other workers have none."""
    held = {unit.stem: service(unit)["CapabilityBoundingSet"].split() for unit in UNITS}
    probe = held.pop("dnstrail-probe")
    assert {"CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"} <= set(probe)
    assert probe == service(UNITS[1])["AmbientCapabilities"].split()
    assert set(map(tuple, held.values())) == {()}


def test_listeners_start_before_the_probe():
    """A unit is ready once its main loop runs, so the probe starts after the workers that receive its events."""
    probe = next(unit for unit in UNITS if unit.stem == "dnstrail-probe").read_text()
    after = re.search(r"^After=(.*)$", probe, re.MULTILINE)[1].split()
    assert sorted(after) == [unit.name for unit in UNITS if unit.stem != "dnstrail-probe"]


def test_a_silent_probe_is_unhealthy():
    """The compose file checks the health of the pipeline by a command that exists, where the cache serves."""
    services = COMPOSE.read_text().partition("services:")[2]
    cache = services.partition("  cache:")[2].partition("  signatures:")[0]
    words = re.search(r"test: \[CMD, dnstrail, (\w+)\]", cache)
    main_command.get_command(None, words[1]).make_context(words[1], [], resilient_parsing=False)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path):
    """Systemd verifies the units without a complaint."""
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace(PREFIX, "/bin/true"))
    paths = [str(tmp_path / unit.name) for unit in UNITS]
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True, timeout=30, check=False
    )
    assert [line for line in run.stderr.splitlines() if "dnstrail-" in line] == []
    assert "Unknown" not in run.stderr
