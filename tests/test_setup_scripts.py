"""The scripts that install packages."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from live.processes import PATIENCE

SCRIPT = Path(__file__).parents[1] / "deploy/install-packages.sh"


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="this system has no apt-get")
def test_packages_are_installed_after_another_program_has_finished(tmp_path):
    """While another program holds the lock of the package lists, as on a new machine, the script waits and says so."""
    lists = tmp_path / "state/lists"
    (lists / "partial").mkdir(parents=True)
    (tmp_path / "sources.list").touch()
    folders = {
        "Etc::sourcelist": tmp_path / "sources.list",
        "Etc::sourceparts": "-",
        "State": tmp_path / "state",
        "Cache": tmp_path / "cache",
    }
    config = tmp_path / "apt.conf"
    config.write_text("".join(f'Dir::{name} "{path}";\n' for name, path in folders.items()))
    environment = {**os.environ, "APT_CONFIG": str(config)}
    with (lists / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        with subprocess.Popen([SCRIPT, "--update"], env=environment, stderr=subprocess.PIPE, text=True) as script:
            assert "waiting for another program" in script.stderr.readline()
            fcntl.lockf(lock, fcntl.LOCK_UN)
            assert script.wait(PATIENCE) == 0
