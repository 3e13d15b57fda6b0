"""A file of a run is written at its path, whatever the command put there."""

from __future__ import annotations

import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dnstrail.errors import SettingsError
from dnstrail.users import User
from dnstrail_run import files
from dnstrail_run.files import OutputFile
from live.processes import PATIENCE, dnstrail, run_dir

STRANGER = User(54321, 54321)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
# What a command can do with its report in a folder of its own; $PWD is the folder above.
REPLACED = {
    "another file": "rm out/r.json; echo forged > out/r.json",
    "renamed over": "echo forged > forged; mv forged out/r.json",
    "a link to another file": "echo forged > forged; ln -sf ../forged out/r.json",
    "a link to itself": "ln -sf r.json out/r.json",
    "a device": "ln -sf /dev/null out/r.json",
    "a FIFO that nobody reads": "rm out/r.json; mkfifo out/r.json",
    "nothing": "rm out/r.json",
    "another folder": "mv out old; mkdir out; echo forged > out/r.json",
    "a link to another folder": "mv out old; mkdir new; ln -s new out; echo forged > out/r.json",
}


def by_command(folder: Path, script: str) -> None:
    """Run a script as the command would."""
    subprocess.run(["sh", "-ec", script], cwd=folder, check=True, timeout=PATIENCE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the folder of a report."""
    (tmp_path / "out").mkdir()
    return tmp_path


@pytest.mark.parametrize("script", REPLACED.values(), ids=REPLACED)
def test_a_file_that_is_replaced_is_written_anew(folder, script):
    """The path leads to the report, whatever else was put there; nothing else is written, and no part stays."""
    file = OutputFile("--report", folder / "out" / "r.json", None)
    by_command(folder, script)
    assert "was removed or replaced while the command ran" in file.change()
    assert file.write("true") == ""
    assert (folder / "out" / "r.json").read_text() == "true"
    assert not (folder / "out" / "r.json").is_symlink()
    assert not [*folder.rglob(".dnstrail-*")]
    assert {path.read_text() for path in folder.glob("forged")} <= {"forged\n"}


def test_a_file_that_is_written_to_is_overwritten(folder):
    """The report is the whole content of its file, also if the command wrote more to it."""
    path = folder / "out" / "r.json"
    file = OutputFile("--report", path, None)
    by_command(folder, "head -c 100000 /dev/zero > out/r.json")
    assert "was changed while the command ran" in file.change()
    assert (file.write("true"), path.read_text()) == ("", "true")


@pytest.mark.parametrize("kept", ["../kept.json", "/dev/full"])
def test_a_link_of_the_caller_stays(folder, kept):
    """A file that nobody replaced is written where it is: through a link, and to a device."""
    path = folder / "out" / "r.json"
    path.symlink_to(kept)
    file = OutputFile("--report", path, None)
    fault = file.write("true")
    assert path.is_symlink()
    if kept == "/dev/full":
        assert fault == f"--report {path}: No space left on device"
    else:
        assert (fault, (folder / "kept.json").read_text()) == ("", "true")


def test_a_path_is_that_of_the_start(folder, monkeypatch):
    """A relative path leads to the report, also if the command moves the folder in which dnstrail runs."""
    monkeypatch.chdir(folder / "out")
    file = OutputFile("--report", Path("r.json"), None)
    by_command(folder, "mv out old; mkdir out; echo forged > out/r.json")
    assert "replaced" in file.change()
    assert (file.write("true"), (folder / "out" / "r.json").read_text()) == ("", "true")


def test_a_new_file_has_the_permissions_of_the_first(folder):
    """A report that only its owner may read stays so when it is written anew."""
    path = folder / "out" / "r.json"
    path.touch(0o600)
    file = OutputFile("--report", path, None)
    by_command(folder, "rm out/r.json; touch out/r.json; chmod 666 out/r.json")
    assert file.write("true") == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_not_written_stays_as_it_was(folder):
    """A file that is opened and discarded keeps its content; a new one is removed if it is empty."""
    path = folder / "out" / "r.json"
    OutputFile("--report", path, None).discard()
    assert not path.exists()
    path.symlink_to("kept.json")
    OutputFile("--report", path, None).discard()
    assert (path.is_symlink(), path.exists()) == (True, False)
    path.unlink()
    file = OutputFile("--report", path, None)
    by_command(folder, "echo of the command > out/r.json")
    file.discard()
    assert path.read_text() == "of the command\n"
    OutputFile("--report", path, None).discard()
    assert path.read_text() == "of the command\n"


@pytest.mark.parametrize("refused", [("--enforce",), ("--report", "none/r.json")], ids=["an option", "a second report"])
def test_a_run_that_is_refused_leaves_no_empty_report(folder, refused):
    """A run that does not begin makes no report, and keeps an earlier one."""
    new, old = folder / "out" / "new.json", folder / "out" / "old.json"
    old.write_text("an earlier report")
    done = dnstrail("run", "--report", new, "--report", old, *refused, "--", "true")
    assert done.returncode == 2
    assert (new.exists(), old.read_text()) == (False, "an earlier report")


def test_a_path_that_leads_nowhere_is_a_fault(folder):
    """A path that cannot be written is named, and costs no temporary file."""
    for script, reason in (
        ("rm out/r.json; mkdir out/r.json; touch out/r.json/x", "Is a directory"),
        ("rm -rf out", "No such file or directory"),
    ):
        file = OutputFile("--report", folder / "out" / "r.json", None)
        by_command(folder, script)
        assert file.write("true") == f"--report {folder}/out/r.json: {reason}"
        assert not [*folder.rglob(".dnstrail-*")]
        by_command(folder, "rm -rf out; mkdir out")


def test_a_fifo_that_nobody_empties_ends_no_wait(folder, monkeypatch):
    """A report that its reader does not take is a fault after a bounded time; a slow reader gets all of it."""
    monkeypatch.setattr(files, "_PATIENCE", 0.2)
    path = folder / "out" / "r.json"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    text = "x" * (1 << 20)
    assert OutputFile("--report", path, None).write(text) == f"--report {path}: nobody reads it"
    os.read(reading, 1 << 20)
    os.set_blocking(reading, True)
    with ThreadPoolExecutor() as threads:
        written = threads.submit(OutputFile("--report", path, None).write, text)
        taken = b""
        while len(taken) < len(text):
            taken += os.read(reading, 1 << 16)
    assert (written.result(), taken.decode()) == ("", text)
    os.close(reading)


def test_a_name_that_is_no_text_is_escaped(folder):
    """The sentences about a file are text for a report, whatever bytes its path has."""
    path = Path(os.fsdecode(os.fsencode(folder) + b"/out/\xff"))
    file = OutputFile("--report", path, None)
    path.unlink()
    assert file.change().startswith(f"--report {folder}/out/\\xff was removed")
    assert file.write("true") == ""


def test_a_race_for_the_path_ends(folder, monkeypatch):
    """A path that is replaced after each try is a fault, and no endless loop."""
    path = folder / "out" / "r.json"
    file = OutputFile("--report", path, None)
    rename = Path.rename

    def replaced(new: Path, target: Path) -> None:
        rename(new, target)
        by_command(folder, "rm out/r.json; echo forged > out/r.json")

    by_command(folder, "rm out/r.json")
    monkeypatch.setattr(Path, "rename", replaced)
    assert "again and again" in file.write("true")


@as_root
def test_a_file_is_opened_with_the_rights_of_the_caller(tmp_path):
    """Root opens no file for a caller that this caller could not open, and has its rights again afterwards."""
    secret = tmp_path / "secret"
    secret.write_text("a.example")
    secret.chmod(0o600)
    groups = os.getgroups()
    with pytest.raises(SettingsError, match="Permission denied"):
        OutputFile("--report", secret, STRANGER)
    assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)
    assert secret.read_text() == "a.example"


@as_root
@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_belongs_to_the_caller(replaced):
    """A report that root writes for a caller belongs to the caller, and goes only where the caller may write."""
    with run_dir() as folder:
        (folder / "out").mkdir()
        (folder / "root").mkdir(0o755)
        folder.chmod(0o755)
        os.chown(folder / "out", *STRANGER)
        file = OutputFile("--report", folder / "out" / "r.json", STRANGER)
        if replaced:
            by_command(folder, "rm out/r.json")
        assert file.write("true") == ""
        written = (folder / "out" / "r.json").stat()
        assert (written.st_uid, written.st_gid) == STRANGER
        file = OutputFile("--report", folder / "out" / "r.json", STRANGER)
        by_command(folder, "mv out old; ln -s root out")
        assert file.write("true").endswith("Permission denied")
        assert not [*(folder / "root").iterdir()]
