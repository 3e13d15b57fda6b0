"""Runs of `dnstrail run --enforce` on the client of a listed network."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from live.listed_network import ALLOW_LIST, ListedNetwork
from live.pipelines import pipeline
from live.processes import run_dir
from live.run_commands import within

LISTED_RUN = (sys.executable, "-m", "dnstrail_cli", "run", "--allow", "allowed", "--enforce")
RUN = (*LISTED_RUN, "--any-question")


@contextmanager
def watched() -> Iterator[None]:
    """Run a pipeline that watches all runs."""
    with pipeline("--output", "json") as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DNSTRAIL_RUN_DIR", str(running.folder))
        patch.setenv("SUDO_UID", "")
        yield


@contextmanager
def client_folder() -> Iterator[Path]:
    """Make a folder with the list of the client."""
    with run_dir() as made:
        made.chmod(0o755)
        (made / "allowed").write_text(ALLOW_LIST)
        yield made


def enforced(
    network: ListedNetwork, folder: Path, *command: str, prefix: tuple[str, ...] = RUN, patience: float = 240
) -> tuple[dict[str, Any], str]:
    """Run a command with --enforce; return its report, and its output. `prefix` lets any question pass, or not.

    The report has the names of all refusals if its capture is complete, which it need not be on a busy host.
    """
    run = (*prefix, "--report", "r.json", "--quiet", "--", *command)
    done = subprocess.run(
        within(network.hosts, *run), cwd=folder, capture_output=True, text=True, timeout=patience, check=False
    )
    sys.stderr.write(done.stderr)  # for the report of a test that fails
    report = json.loads((folder / "r.json").read_text() or "{}")
    assert report, done.stderr
    own = report["exit_code"] if report["coverage"]["complete"] else 4
    assert done.returncode == (10 if report["not_allowed"] else own), done.stderr
    return report, done.stdout
