from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dnstrail import kept_objects
from dnstrail.kept_objects import MOST_BYTES, MOST_KEPT, load_kept
from dnstrail.kernel.bpf import MapShape
from dnstrail.kernel.objects import BpfObject, LoadedObject
from dnstrail.process.private_folder import open_private
from live.namespaces import live_or_skip

TEXT = "BPF_ARRAY(only, u64, VALUES);\nint f(void *ctx) { return 1; }\n"
OTHER = TEXT + "int g(void *ctx) { return 1; }\n"
NOBODY = 65534


class Starts:
    """Starts of a probe that keeps its programs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.compiled = 0

    def start(self, text: str = TEXT) -> BpfObject:
        """Load a text; note whether it was compiled."""
        return load_kept(text, self._offsets, self._load)

    def _offsets(self) -> str:
        self.compiled += 1
        return "#define VALUES 3\n"

    @staticmethod
    def _load(compiled: BpfObject) -> BpfObject:
        LoadedObject(compiled).close()
        return compiled

    @property
    def file(self) -> Path:
        """The kept object of TEXT."""
        return self.folder / kept_objects._key(TEXT, by_types=True)


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Return a folder with the compiled TEXT."""
    live_or_skip()
    folder = tmp_path_factory.mktemp("kept") / "dnstrail"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHE_DIRECTORY", str(folder))
        Starts(folder).start()
    return folder


@pytest.fixture
def starts(kept, tmp_path, monkeypatch) -> Starts:
    """Return later starts, with a copy of the folder."""
    folder = tmp_path / "dnstrail"
    shutil.copytree(kept, folder)
    monkeypatch.setenv("CACHE_DIRECTORY", str(folder))
    return Starts(folder)


def test_a_later_start_needs_no_compiler(starts):
    """The object that was kept is the one that was compiled; the folder and its files belong to their user alone."""
    first = starts.start()
    assert starts.compiled == 0
    assert first.maps == {"only": MapShape(2, 4, 8, 3, 0)}
    starts.file.unlink()
    assert starts.start() == first
    assert starts.compiled == 1
    assert {starts.folder.stat().st_mode & 0o777, starts.file.stat().st_mode & 0o777} == {0o700, 0o600}


def test_another_text_is_another_object(starts):
    """Each text is compiled once, and both are kept."""
    assert [set(starts.start(text).programs) for text in (OTHER, TEXT, OTHER)] == [{"f", "g"}, {"f"}, {"f", "g"}]
    assert starts.compiled == 1


@pytest.mark.parametrize("changed", ["VMLINUX", "bcc_version", "headers"])
def test_another_host_is_another_key(changed, monkeypatch, tmp_path):
    """Another kernel, another bcc and other headers lead to another object."""
    before = kept_objects._key(TEXT, by_types=True)
    (tmp_path / "btf").write_bytes(b"another kernel")
    others = {"VMLINUX": tmp_path / "btf", "bcc_version": lambda: "0.0", "headers": lambda: {"a.h": ""}}
    monkeypatch.setattr(kept_objects, changed, others[changed])
    assert kept_objects._key(TEXT, by_types=True) != before


def test_an_object_without_offsets_does_not_depend_on_types(starts, monkeypatch, tmp_path):
    """Where nothing of the BTF comes first, the same object serves another BTF."""
    first = load_kept(OTHER.replace("VALUES", "5"), None, lambda compiled: compiled)
    monkeypatch.setattr(kept_objects, "VMLINUX", tmp_path / "none")
    monkeypatch.setattr(kept_objects, "compile_object", None)
    assert load_kept(OTHER.replace("VALUES", "5"), None, lambda compiled: compiled) == first
    assert starts.compiled == 0


def truncate(file: Path) -> None:
    """Leave half of the file, as a crash may."""
    os.truncate(file, file.stat().st_size // 2)


def damage(file: Path) -> None:
    """Change one bit."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def exchange(file: Path) -> None:
    """Put the object of another key in its place, as it was kept."""
    other = "0" * 64
    kept_objects._keep(other, BpfObject({}, {}))
    (file.parent / other).rename(file)


def refuse(file: Path) -> None:
    """Put an object in its place that the kernel refuses."""
    kept_objects._keep(file.name, BpfObject({"only": MapShape(9999, 4, 8, 3, 0)}, {}))


def link(file: Path) -> None:
    """Put a symbolic link to the object in its place."""
    file.rename(file.parent.parent / "elsewhere")
    file.symlink_to(file.parent.parent / "elsewhere")


def pipe(file: Path) -> None:
    """Put a pipe in its place, whose writer never comes."""
    file.unlink()
    os.mkfifo(file, 0o600)


FORGED: dict[str, Callable[[Path], object]] = {
    "empty": lambda file: file.write_bytes(b""),
    "truncated": truncate,
    "damaged": damage,
    "of another key": exchange,
    "refused by the kernel": refuse,
    "too long": lambda file: os.truncate(file, MOST_BYTES + 1),
    "a link": link,
    "a pipe": pipe,
    "others may write it": lambda file: file.chmod(0o622),
    "of another user": lambda file: os.chown(file, NOBODY, NOBODY),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_file_that_is_no_object_is_compiled_anew(starts, forge):
    """What cannot be trusted is replaced, and the next start uses the new one."""
    expected = starts.start()
    forge(starts.file)
    assert [starts.start(), starts.start()] == [expected] * 2
    assert starts.compiled == 1
    assert starts.file.is_file()
    assert not starts.file.is_symlink()


def link_folder(folder: Path) -> None:
    """Put a symbolic link to the folder in its place."""
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


DISTRUSTED: dict[str, Callable[[Path], object]] = {
    "others may write it": lambda folder: folder.chmod(0o770),
    "of another user": lambda folder: os.chown(folder, NOBODY, NOBODY),
    "a link": link_folder,
}


@pytest.mark.parametrize("change", DISTRUSTED.values(), ids=DISTRUSTED)
def test_a_folder_of_others_is_not_used(starts, change):
    """Nothing is read from such a folder, and nothing is written."""
    change(starts.folder)
    before = {path.name: path.stat().st_mtime_ns for path in starts.folder.iterdir()}
    starts.start()
    starts.start(OTHER)
    assert starts.compiled == 2
    assert {path.name: path.stat().st_mtime_ns for path in starts.folder.iterdir()} == before


def test_a_folder_in_use_is_not_awaited(starts):
    """While another probe reads or writes the folder, this one compiles."""
    other = open_private(starts.folder, "another probe")
    starts.start()
    other.close()
    starts.start()
    assert starts.compiled == 1


def test_without_a_folder_each_start_compiles(kept, monkeypatch):
    """Another user than root has no folder, unless systemd makes one."""
    monkeypatch.delenv("CACHE_DIRECTORY")
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    starts = Starts(kept)
    assert starts.start() == starts.start()
    assert starts.compiled == 2


def test_few_objects_are_kept(starts):
    """Beyond the bound, the objects that were used least recently are removed, and no other files."""
    (starts.folder / "note").write_text("of the administrator")
    keys = [f"{number:064x}" for number in range(MOST_KEPT + 2)]
    for age, key in enumerate(keys):
        kept_objects._keep(key, BpfObject({}, {}))
        os.utime(starts.folder / key, (age, age))
    starts.start()
    kept_objects._keep("f" * 64, BpfObject({}, {}))
    found = {path.name for path in starts.folder.iterdir()}
    assert found - {"lock", "note"} == {"f" * 64, starts.file.name, *keys[-(MOST_KEPT - 2) :]}
    assert {"lock", "note"} <= found


def test_an_object_beyond_the_bound_is_not_kept(starts):
    """A huge object does not fill the folder."""
    kept_objects._keep("0" * 64, BpfObject({}, {"f": bytes(MOST_BYTES)}))
    assert not (starts.folder / ("0" * 64)).exists()
