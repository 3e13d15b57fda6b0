"""Loading signatures from entry points, files and folders; refusing files that others may write."""

from __future__ import annotations

import os
import re

import pytest
from structlog.testing import capture_logs

from dnstrail import EventSelector, Signature, SignatureMetadata
from dnstrail.errors import SettingsError
from dnstrail_signatures.builtin.e2e_dns_data_source import E2eDnsDataSource
from dnstrail_signatures.builtin.watched_name import WatchedName
from dnstrail_signatures.loading import load as loading
from dnstrail_signatures.loading.load import find, load

SIGNATURE = """
from dnstrail.signature import EventSelector, Signature, SignatureMetadata

class {name}(Signature):
    metadata = SignatureMetadata("{name}-id", "1", "{name}", "{name}")
    selected_events = (EventSelector(),)
"""
BUILTIN = [cls for cls in load(find()) if cls.__module__.startswith("dnstrail_signatures.builtin.")]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o755)
    return tmp_path


def write(folder, name="mine"):
    path = folder / f"{name}.py"
    path.write_text(SIGNATURE.format(name=name.title()))
    return path


def names(classes):
    return [cls.__name__ for cls in classes if cls not in BUILTIN]


def test_the_builtin_signatures_are_entry_points():
    """The signatures that ship with dnstrail are loaded without a path."""
    assert {E2eDnsDataSource, WatchedName} <= {*load(find())}


def test_a_file_is_loaded_after_them(folder):
    """A file contributes the signatures that it defines, not those that it imports."""
    classes = load(find([write(folder)]))
    assert classes[: len(BUILTIN)] == BUILTIN
    assert names(classes) == ["Mine"]
    assert classes[-1].metadata.id == "Mine-id"


def test_a_file_may_hold_several(folder):
    """Every signature of a file is loaded; other classes are ignored."""
    path = write(folder)
    path.write_text(path.read_text() + SIGNATURE.format(name="Another") + "class Helper:\n    pass\n")
    assert names(load(find([path]))) == ["Another", "Mine"]


def test_a_folder_is_loaded_in_the_order_of_its_files(folder):
    """A folder contributes its Python files in the order of their names, and nothing from folders below."""
    for name in ("b", "c", "a"):
        write(folder, name)
    (folder / "notes.txt").write_text("no Python")
    (folder / "below").mkdir()
    write(folder / "below", "d")
    assert names(load(find([folder]))) == ["A", "B", "C"]


def test_paths_are_loaded_in_their_order(folder):
    """Several paths are loaded in the given order."""
    one, two = write(folder, "one"), write(folder, "two")
    assert names(load(find([two, one]))) == ["Two", "One"]


def test_a_file_is_loaded_once_however_often_it_is_given(folder):
    """A file that is given twice, with its folder, and by a link reports each finding once."""
    file, link = write(folder), folder / "linked.py"
    link.symlink_to(file)
    assert names(load(find([file, file, folder, link]))) == ["Mine"]


def test_an_entry_point_that_does_not_load_is_logged(monkeypatch):
    """A broken package is logged by its entry point, and all others are loaded."""

    class Broken:
        name, value = "broken", "no.such:Signature"

        def load(self):
            raise ImportError("no module named no")

    installed = [Broken(), *loading.entry_points(group="dnstrail.signatures")]
    monkeypatch.setattr(loading, "entry_points", lambda group: installed)
    with capture_logs() as logs:
        assert [cls for cls in load(find()) if cls in BUILTIN] == BUILTIN
    assert [(entry["event"], entry["entry_point"]) for entry in logs] == [("signature_not_loaded", "no.such:Signature")]


METADATA = SignatureMetadata(id="S-1", version="1", name="Odd", event_name="ODD")
NOT_SELECTORS = [
    ("EventSelector()", "is EventSelector"),
    ("[EventSelector()]", "is list"),
    ("'net_packet_dns'", "is str"),
    ("('net_packet_dns',)", "is a tuple that holds 'net_packet_dns'"),
    ("None", "is NoneType"),
]


@pytest.mark.parametrize(("selected", "problem"), NOT_SELECTORS)
def test_a_file_whose_selected_events_are_no_tuple_of_selectors_is_refused(folder, selected, problem):
    """A file with wrong selected_events is a SettingsError with the path, the class and what is there instead."""
    path = write(folder)
    path.write_text(path.read_text().replace("(EventSelector(),)", selected))
    expected = f"signature file {path}: Mine.selected_events {problem}; it must be a tuple of EventSelector"
    with pytest.raises(SettingsError, match=f"^{re.escape(expected)}$"):
        load(find([path]))


def test_an_installed_signature_with_wrong_selected_events_is_left_out(monkeypatch):
    """An entry point whose signature has wrong selected_events is logged in one line, and all others are loaded."""

    class Wrong:
        name, value = "wrong", "wrong:Wrong"

        def load(self):
            return type("Odd", (Signature,), {"metadata": METADATA, "selected_events": EventSelector()})

    installed = [*loading.entry_points(group="dnstrail.signatures"), Wrong()]
    monkeypatch.setattr(loading, "entry_points", lambda group: installed)
    with capture_logs() as logs:
        assert [cls.__name__ for cls in load(find()) if cls not in BUILTIN] == []
    [entry] = logs
    assert entry["entry_point"] == "wrong:Wrong"
    assert entry["error"] == (
        f"signature file {__file__}: Odd.selected_events is EventSelector; it must be a tuple of EventSelector"
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("\nimport no_such_module\n", ", line 2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("class Broken(\n", ": SyntaxError: '(' was never closed (broken.py, line 1)"),
        ("1 / 0\n", ", line 1: ZeroDivisionError: division by zero"),
        ("import json\n\njson.loads('{')\n", ", line 3: JSONDecodeError: "),
        ("def f():\n    raise SystemExit(3)\n\nf()\n", ", line 2: SystemExit: 3"),
        ("\xff", ": SyntaxError: "),
    ],
    ids=["import", "syntax", "raises", "in another module", "in a function", "not UTF-8"],
)
def test_a_file_that_does_not_import_is_refused(folder, text, error):
    """A file that raises is a SettingsError with its path, the last of its lines that ran, and the reason."""
    path = folder / "broken.py"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=re.escape(f"signature file {path}{error}")):
        load(find([path]))


def test_a_missing_file_is_refused(folder):
    """A path that does not exist is a SettingsError with the path."""
    path = folder / "none.py"
    with pytest.raises(SettingsError, match=f"signature file {path}: No such file or directory"):
        load(find([path]))


def test_a_file_of_another_kind_is_refused(folder):
    """A file whose name is not a Python file's is a SettingsError with its path."""
    path = folder / "signature.txt"
    path.write_text("x = 1")
    with pytest.raises(SettingsError, match=f"signature file {path}: not a Python file"):
        load(find([path]))


def refused(path):
    with pytest.raises(SettingsError, match="others may write it or its folder; refused") as caught:
        load(find([path]))
    return str(caught.value)


@pytest.mark.parametrize("mode", [0o666, 0o602, 0o620, 0o777])
def test_a_file_that_others_may_write_is_refused(folder, mode):
    """A file that others may write is refused with its path, and is not executed."""
    path = write(folder)
    marker = folder / "ran"
    path.write_text(f"open({str(marker)!r}, 'w').close()\n")
    path.chmod(mode)
    assert str(path) in refused(path)
    assert str(path) in refused(folder)
    assert not marker.exists()


def test_a_file_in_a_folder_that_others_may_write_is_refused(folder):
    """A file is refused if others may replace it in its folder."""
    path = write(folder)
    folder.chmod(0o777)
    assert str(path) in refused(path)
    assert str(path) in refused(folder)


def test_a_file_of_our_own_in_a_sticky_folder_is_loaded(folder):
    """A file in a sticky folder such as /tmp is loaded: others cannot replace it."""
    path = write(folder)
    folder.chmod(0o1777)
    assert names(load(find([path]))) == ["Mine"]


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_file_below_a_folder_that_others_may_write_is_refused(folder, mode):
    """A file is refused if others may replace one of the folders above it; the error names this folder."""
    below = folder / "above" / "below"
    below.mkdir(parents=True)
    path = write(below)
    (folder / "above").chmod(mode)
    assert f"{folder / 'above'} must belong to root" in refused(path)


def test_a_file_leaves_no_bytecode_behind(folder):
    """A file is compiled from what was read and checked: no bytecode cache is written or used."""
    load(find([write(folder)]))
    assert [entry.name for entry in folder.iterdir()] == ["mine.py"]


def test_a_pipe_is_not_waited_for(folder):
    """A pipe in the place of a file is refused at once; the worker does not wait for a writer."""
    os.mkfifo(folder / "pipe.py", 0o600)
    with pytest.raises(SettingsError, match=f"^signature file {folder / 'pipe.py'}: not a regular file$"):
        load(find([folder / "pipe.py"]))


@AS_ROOT
@pytest.mark.parametrize("what", ["the file", "its folder"])
def test_a_file_of_somebody_else_is_refused(folder, what):
    """A file or a folder that belongs to another user is refused."""
    path = write(folder)
    os.chown(path if what == "the file" else folder, 65534, 65534)
    assert str(path) in refused(path)


def test_a_link_is_checked_at_its_target(folder):
    """A link is refused if others may write its target or the folder of the target, and loaded otherwise."""
    good, bad = folder / "good", folder / "bad"
    for each in (good, bad):
        each.mkdir()
    target, loose = write(good), write(bad, "loose")
    (folder / "good_link.py").symlink_to(target)
    (folder / "bad_link.py").symlink_to(loose)
    assert names(load(find([folder / "good_link.py"]))) == ["Mine"]
    bad.chmod(0o777)
    assert str(folder / "bad_link.py") in refused(folder / "bad_link.py")
