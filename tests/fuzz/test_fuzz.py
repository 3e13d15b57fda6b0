"""The fuzzer itself: it succeeds without a difference, and reports a difference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shutil import copytree

FUZZ = Path(__file__).with_name("fuzz.py")
SOURCE = Path(__file__).parents[2] / "shared"


def fuzz(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the fuzzer without a corpus, which takes long to read."""
    command = [sys.executable, str(FUZZ), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"DNSTRAIL_CORPUS": ""} | env
    )


def test_a_short_run_finds_no_difference() -> None:
    """A short run meets every kind of payload, and neither decoder nor image fails."""
    ended = fuzz("--messages", "400", "--seed", "1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "messages 400" in ended.stdout


def test_a_difference_ends_it_with_a_payload_that_shows_it_again(tmp_path: Path) -> None:
    """A decoder that keeps the case of odd labels is found, and the printed payload reproduces it."""
    names = copytree(SOURCE / "dnstrail", tmp_path / "dnstrail") / "dns" / "names.py"
    right = names.read_text()
    names.write_text(right.replace("label = label.lower()", "label = bytes(label)"))
    assert names.read_text() != right
    ended = fuzz("--messages", "5000", "--seed", "1", PYTHONPATH=str(tmp_path))
    assert ended.returncode == 1, ended.stdout + ended.stderr
    payload = ended.stdout.split("DIFFERENCE at the payload ")[1].split()[0]
    assert "ours" in fuzz("--payload", payload, PYTHONPATH=str(tmp_path)).stdout
    assert fuzz("--payload", payload).stdout == "no difference\n"
