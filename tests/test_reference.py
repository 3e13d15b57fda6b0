"""docs/reference/ is what the code states, and the code states all that a running pipeline shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dnstrail.protocol.counters import COUNTERS, SECTIONS
from live.processes import PATIENCE, dnstrail, run_dir, started, wait_until

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "deploy/make_reference.py"
COUNTED = re.compile(r'counters\["([a-z0-9_]+)"\] (?:\+=|=)')
LOGGED = re.compile(r'(?:\.(?:debug|info|warning|error|exception)|_log_once)\(\s*"([a-z_]+)"')
OF_TRACEE = ("dnscache", "events", "output")
COUNTING = ("shared/dnstrail/image", "services/probe", "services/cache")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the folder of the pages as the script writes them now."""
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run([sys.executable, str(SCRIPT), str(folder)], check=True, timeout=PATIENCE)
    return folder


def test_the_reference_is_current(made):
    """Each page of the reference is what deploy/make_reference.py writes."""
    pages = {page.name: page.read_text() for page in made.iterdir()}
    assert len(pages) >= 7
    for name, text in pages.items():
        assert text == (ROOT / "docs/reference" / name).read_text(), f"run {SCRIPT} docs/reference"


def test_every_row_has_a_meaning(made):
    """No row of the reference has an empty last cell."""
    lines = [line for page in made.iterdir() for line in page.read_text().splitlines()]
    assert len(lines) > 500
    assert [line for line in lines if re.search(r"\|\s*\|$", line)] == []


def test_options_are_few(made):
    """All commands together have at most 222 options, those of tracee apart. A retired spelling has no row."""
    options = re.findall(r"^\| `--([\w-]+)", (made / "commands.md").read_text(), re.MULTILINE)
    assert 100 < len([option for option in options if option not in OF_TRACEE]) <= 222


def test_every_counter_that_is_shown_has_a_meaning():
    """Each section and each counter of `dnstrail stats` has a meaning, after the demo capture."""
    with run_dir() as folder, started("--capture", "demo", "--stay", "--run-dir", folder):
        wait_until(lambda: dnstrail("get", "updates.example", "--run-dir", folder).returncode == 0, "the demo capture")
        stats = json.loads(dnstrail("stats", "--json", "--run-dir", folder).stdout)
    assert stats.keys() == SECTIONS.keys()
    for section in ("image", "admission", "cache", "lost"):
        assert stats[section].keys() <= COUNTERS[section].keys(), section
    assert all(probe.keys() <= COUNTERS["probes"].keys() for probe in stats["probes"].values())
    assert stats["image"]["related"] > 0


def texts(*folders, but=()):
    """Return the text of all modules of these folders, but for some files."""
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py") if file.name not in but]
    return "\n".join(file.read_text() for file in files)


def test_every_counter_of_the_code_has_a_meaning():
    """Each counter that a line of the code counts by its name has a meaning, and each meaning is of a counter."""
    counted = {*COUNTED.findall(texts(*COUNTING))}
    known = {name for rows in COUNTERS.values() for name in rows}
    assert len(counted) > 60
    assert sorted(counted - known) == []
    words = {*re.findall(r"\w+", texts("shared", "services", but=("counters.py",)))}
    assert sorted(name for name in known - words if not name.startswith("evicted_")) == []


def test_every_line_of_the_log_has_a_meaning():
    """Each event that a worker logs has a row in docs/reference/log.md, and each row is of an event that is logged."""
    logged = {*LOGGED.findall(texts("shared", "services"))}
    assert len(logged) > 30
    page = (ROOT / "docs/reference/log.md").read_text()
    rows = {*re.findall(r"^\| `(\w+)` \| \w.*? \| \w.* \|$", page, re.MULTILINE)}
    assert sorted(logged - rows) == []
    assert sorted(rows - {*re.findall(r"\w+", texts("shared", "services"))}) == []
