"""The names of the events of signatures, found by a process that has no more rights than the signature worker.

Tests of dnstrail_signatures.loading.names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dnstrail.errors import SettingsError
from dnstrail.process.clock import SystemClock
from dnstrail.process.privileges import User
from dnstrail_cli.pipeline.selection import PATIENCE, signature_names
from dnstrail_signatures.loading.load import find, load
from live.processes import dnstrail, run_dir

BUILTIN = tuple(cls.metadata.event_name for cls in load(find()))
USER = User(61_000, 61_000)
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
SIGNATURE = """
from dnstrail import EventSelector, Signature, SignatureMetadata

{statement}

class Mine(Signature):
    metadata = SignatureMetadata(id="M-1", version="1", name="Mine", event_name={name!r})
    selected_events = (EventSelector(name="net_packet_dns"),)

    def init(self, ctx):
        super().init(ctx)
        {statement}
"""
OFF = """
import msgspec

class Off(msgspec.Struct, frozen=True):
    enabled: bool = False
"""
NOTE = """open({path!r}, "a").write("".join(
            line for line in open("/proc/self/status") if line.startswith(("Uid:", "CapEff:", "CapPrm:", "NoNewPrivs:"))
        ))"""


class Impatient:
    """A clock on which every look is later than the patience."""

    def __init__(self):
        self.now = 0.0

    def wall(self):
        return self.now

    def monotonic(self):
        self.now += 2 * PATIENCE
        return self.now


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o755)
    return tmp_path


def write(folder: Path, statement: str = "pass", name: str = "MINE") -> Path:
    path = folder / "mine.py"
    path.write_text(SIGNATURE.format(statement=statement, name=name))
    return path


def test_the_names_are_those_of_installed_signatures_and_files(folder):
    """The names of a file follow those of installed signatures; a file that prints does not disturb."""
    path = write(folder, "print('loaded', flush=True)")
    assert signature_names((), None, SystemClock()).names == BUILTIN
    assert signature_names([path], None, SystemClock()).names == (*BUILTIN, "MINE")


def test_a_signature_that_is_off_has_a_name_and_is_not_enabled(folder):
    """The names hold a signature that runs only where a user names it, and the enabled names do not."""
    path = write(folder, "pass")
    path.write_text(OFF + path.read_text().replace("    selected_events", "    settings = Off()\n    selected_events"))
    found = signature_names([path], None, SystemClock())
    assert "MINE" in found.names
    assert "MINE" not in found.enabled
    assert "WATCHED_NAME" in found.enabled


def test_this_process_imports_no_signature(folder):
    """The process that wants the names runs no signature: the file is imported in another process alone."""
    write(folder, f"import os; open({str(folder / 'ran')!r}, 'a').write(f'{{os.getpid()}}\\n')")
    signature_names([folder], None, SystemClock())
    [ran] = (folder / "ran").read_text().split()
    assert int(ran) != os.getpid()


@pytest.mark.parametrize(
    ("statement", "name", "error"),
    [
        ("raise ValueError('x')", "MINE", "^signature file .*/mine.py, line 4: ValueError: x$"),
        (r"raise ValueError('\udcff')", "MINE", r"line 4: ValueError: \\udcff$"),
        ("import os; os._exit(0)", "MINE", "^the signatures did not load: see the lines above$"),
        ("pass", "M" * 100_000, "^the signatures did not load: see the lines above$"),
    ],
    ids=["an error", "an error that is no text", "an end", "a long name"],
)
def test_signatures_that_do_not_load_are_an_error(folder, statement, name, error):
    """A file that raises, ends the process or makes a long reply is a SettingsError."""
    path = write(folder, statement, name)
    with pytest.raises(SettingsError, match=error):
        signature_names([path], None, SystemClock())


def test_signatures_that_take_too_long_are_an_error(folder):
    """The names are waited for during a bounded time; the process that looked for them is ended."""
    path = write(folder, f"import os, time; open({str(folder / 'ran')!r}, 'w').write(str(os.getpid())); time.sleep(99)")
    with pytest.raises(SettingsError, match=r"^the signatures took more than 20 seconds to load$"):
        signature_names([path], None, Impatient())
    ran = folder / "ran"
    assert not ran.exists() or not Path(f"/proc/{ran.read_text()}").exists()


@AS_ROOT
def test_a_signature_never_has_the_rights_of_the_run(folder):
    """In a run of root, a signature file is imported and started as the user of the workers, without capabilities."""
    with run_dir() as sockets:
        sockets.chmod(0o755)
        notes = sockets / "notes"
        notes.touch()
        notes.chmod(0o666)
        path = write(folder, NOTE.format(path=str(notes)))
        shown = dnstrail(
            *("--capture", "demo", "--signatures", path, "--events", "MINE", "--run-dir", sockets / "run"),
            SUDO_UID=str(USER.uid),
            SUDO_GID=str(USER.gid),
        )
        assert shown.returncode == 0, shown.stderr
        lines = notes.read_text().splitlines()
    assert len(lines) == 3 * 4  # the import for the names; import and start in the worker
    uids = "\t".join([str(USER.uid)] * 4)
    none = "0" * 16
    assert set(lines) == {f"Uid:\t{uids}", f"CapPrm:\t{none}", f"CapEff:\t{none}", "NoNewPrivs:\t1"}


@AS_ROOT
def test_a_file_that_only_root_can_read_is_read_before_the_change_of_user(folder):
    """Root may keep its signature files to itself: they are read with its rights, and run without."""
    path = write(folder)
    path.chmod(0o600)
    folder.chmod(0o700)
    assert signature_names([path], USER, SystemClock()).names == (*BUILTIN, "MINE")


def test_the_worker_prints_the_names_as_one_line(folder):
    """`dnstrail signatures --names` prints one JSON line on stdout, whatever the files print."""
    command = [sys.executable, "-m", "dnstrail_signatures", "--names", "--signatures", str(write(folder, "print('x')"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    reply = json.loads(done.stdout)
    assert (reply["names"], reply["error"]) == ([*BUILTIN, "MINE"], "")
    assert done.stderr == "x\n"
