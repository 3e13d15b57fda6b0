"""A new signature takes one file and one line: the file is a module, the line an entry point of its package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

import dnstrail
from dnstrail.captured import Captured, Process
from dnstrail.events import SCHED_PROCESS_EXIT
from live.workers import BOUND, probe, short_folder

MODULE = '''
from dnstrail import EventSelector, Signature, SignatureMetadata


class ShellEnded(Signature):
    """Reports every shell that ends."""

    metadata = SignatureMetadata(id="MINE-1", version="1", name="Shell ended", event_name="SHELL_ENDED")
    selected_events = (EventSelector(name="sched_process_exit"),)

    def on_event(self, event):
        if event.executable.path == "/bin/sh":
            self.report(event, shell=event.process_id)
'''
ENTRY_POINT = "shell_ended = shell_ended:ShellEnded"


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def package(folder):
    """Return a folder as pip installs a package with one module and one entry point."""
    package = folder / "site"
    (package / "shell_ended-1.dist-info").mkdir(parents=True)
    (package / "shell_ended.py").write_text(MODULE)
    (package / "shell_ended-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: shell_ended\nVersion: 1\n"
    )
    (package / "shell_ended-1.dist-info" / "entry_points.txt").write_text(f"[dnstrail.signatures]\n{ENTRY_POINT}\n")
    return package


@contextmanager
def worker(folder, package, *options):
    """Yield the signature worker as a process that has a package on its path."""
    folder.chmod(0o755)  # a worker of root changes its user
    run_dir = folder / "run"
    command = [
        sys.executable,
        "-P",
        "-m",
        "dnstrail_signatures",
        "--run-dir",
        str(run_dir),
        "--cache",
        "none",
        *options,
    ]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(BOUND)
        process.stdout.close()


def test_a_new_signature_is_one_file_and_one_entry_point(folder, package):
    """A module with an entry point is loaded by the worker and fires; its findings have an id of their own."""
    shell = Process(pid=7, name="sh", path="/bin/sh")
    with worker(folder, package, "--select", "SHELL_ENDED") as process, probe(folder / "run") as publishing:
        publishing.turn((SCHED_PROCESS_EXIT, Captured(5_000_000_000, process=shell)))
        finding = json.loads(process.stdout.readline())
    assert (finding["eventName"], finding["eventId"], finding["processId"]) == ("SHELL_ENDED", "6100", 7)
    assert finding["args"][0] == {"name": "shell", "type": "int", "value": 7}
    assert finding["metadata"]["Properties"]["signatureID"] == "MINE-1"


def test_a_file_needs_no_package(folder):
    """The same file is loaded by --signatures, without an entry point."""
    path = folder / "shell_ended.py"
    path.write_text(MODULE)
    shell = Process(pid=7, name="sh", path="/bin/sh")
    options = ("--signatures", str(path), "--select", "SHELL_ENDED")
    with worker(folder, folder / "empty", *options) as process, probe(folder / "run") as publishing:
        publishing.turn((SCHED_PROCESS_EXIT, Captured(5_000_000_000, process=shell)))
        assert json.loads(process.stdout.readline())["eventName"] == "SHELL_ENDED"


@pytest.mark.parametrize("name", dnstrail.__all__)
def test_authors_import_from_dnstrail(name):
    """Each public name can be imported from dnstrail itself."""
    assert getattr(dnstrail, name).__name__ == name


def test_importing_dnstrail_imports_nothing_else():
    """`import dnstrail` loads none of its modules; a public name loads its module on first use."""
    code = (
        "import sys, dnstrail; before = {n for n in sys.modules if n.startswith('dnstrail.')};"
        "dnstrail.Signature; print(sorted(before), *(f'dnstrail.{n}' in sys.modules for n in ('signature', 'client')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=BOUND)
    assert ran.stdout == "[] True False\n"


def test_an_unknown_name_is_an_attribute_error():
    """A name that dnstrail does not have is refused as in any module."""
    with pytest.raises(AttributeError, match="module 'dnstrail' has no attribute 'Nothing'"):
        _ = dnstrail.Nothing
