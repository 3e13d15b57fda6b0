"""The targets of the Makefile."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHOWN = 'shown: ; @echo "$$DNSTRAIL_HISTORY_FOLDER"'


@pytest.mark.parametrize(("chosen", "folder"), [({}, "none"), ({"DNSTRAIL_HISTORY_FOLDER": "/kept"}, "/kept")])
def test_no_target_keeps_the_names_of_this_host(chosen, folder):
    """What a target starts keeps no history, also as root, unless somebody names a folder."""
    inherited = {name: value for name, value in os.environ.items() if name != "DNSTRAIL_HISTORY_FOLDER"}
    command = ["make", "--no-print-directory", f"--eval={SHOWN}", "shown"]
    made = subprocess.run(command, cwd=ROOT, env=inherited | chosen, capture_output=True, text=True, check=True)
    assert made.stdout == f"{folder}\n"
