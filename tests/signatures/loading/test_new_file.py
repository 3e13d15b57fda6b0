"""`--new` writes a signature that works, and `--list` prints the signatures."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dnstrail.errors import SettingsError
from dnstrail_signatures.loading.load import find, load
from dnstrail_signatures.loading.new_signature import write_signature
from live.workers import short_folder


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


def command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-P", "-m", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "DNSTRAIL_RUN_DIR": str(folder)},
        check=False,
    )


def test_a_new_signature_loads_and_its_test_passes(folder):
    """The command writes both files; the signature loads, and its own test passes."""
    done = command(folder, "dnstrail_signatures", "--new", "my_rule2")
    assert done.stdout.split() == ["my_rule2.py", "test_my_rule2.py"], done.stderr
    [cls] = [cls for cls in load(find([folder / "my_rule2.py"])) if cls.metadata.event_name == "MY_RULE2"]
    assert (cls.__name__, cls.metadata.name) == ("MyRule2", "My rule2")
    words = done.stderr.partition("to run the test: ")[2].split()
    assert words[1:] == ["-m", "unittest", "test_my_rule2"]
    tested = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert "Ran 2 tests" in tested.stderr, tested.stderr
    assert tested.returncode == 0
    assert "pytest" not in (folder / "test_my_rule2.py").read_text()


def test_a_folder_with_a_new_signature_and_its_test_loads(folder):
    """A run loads the folder without the test; a file whose name begins like a test, and that tests none, is loaded."""
    folder.chmod(0o755)
    command(folder, "dnstrail_signatures", "--new", "my_rule2")
    options = ("--capture", "demo", "--output", "json", "--events", "MY_RULE2")
    done = command(folder, "dnstrail_cli", "--signatures", ".", "--run-dir", "run", *options)
    assert (done.returncode, "MY_RULE2" in done.stdout) == (0, True), done.stderr
    (folder / "test_alone.py").touch(0o644)
    assert [file.path.name for file in find([folder]).files] == ["my_rule2.py", "test_alone.py"]


def test_the_signatures_are_listed(folder):
    """Each line has event, id, version, name and state, of signatures in files too; control bytes are escaped."""
    path, _ = write_signature(folder, "listed")
    path.write_text(path.read_text().replace('name="Listed"', 'name="Listed \\x1b[31m"'))
    done = command(folder, "dnstrail_signatures", "--list", "--signatures", "listed.py")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert ["LISTED", "LISTED", "1", r"Listed \x1b[31m", "on"] in lines, done.stderr
    assert ["WATCHED_NAME", "DNSTRAIL-1", "2", "Watched name asked", "on"] in lines
    assert ["DNS_DATA_SOURCE", "DNS_DATA_SOURCE", "1", "DNS Data Source Test", "off"] in lines


@pytest.mark.parametrize("name", ["", "My", "a-b", "../x", "a__b", "1a", "a b", "_a"])
def test_a_bad_name_is_refused(folder, name):
    """A name that is no module writes nothing."""
    with pytest.raises(SettingsError):
        write_signature(folder, name)
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize(
    "name", ["class", "true", "none", "json", "typing", "dnstrail", "msgspec", "dns", "pytest", "signature_run"]
)
def test_a_name_with_a_meaning_is_refused(folder, name):
    """A word of Python, the name of a module that is there, and what the test imports write nothing."""
    with pytest.raises(SettingsError, match=f"^--new {name}: .*; choose another name$"):
        write_signature(folder, name)
    assert [*folder.iterdir()] == []


def test_a_file_that_exists_is_kept(folder):
    """A file of this name is not written over."""
    (folder / "mine.py").write_text("mine")
    with pytest.raises(SettingsError):
        write_signature(folder, "mine")
    assert (folder / "mine.py").read_text() == "mine"
