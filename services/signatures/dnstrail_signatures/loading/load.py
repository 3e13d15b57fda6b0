"""Loads signatures in two steps: what is found is read with the rights of the start, and run with fewer."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any

import msgspec
import structlog

from dnstrail.errors import SettingsError
from dnstrail.regular_file import read_trusted
from dnstrail.signature import EventSelector, Signature, SignatureMetadata

GROUP = "dnstrail.signatures"
OF_FLEET = "dnstrail.fleet_signatures"  # the group of those that `dnstrail fleet signatures` runs
TEST = "test_"  # begins the name of the file that tests another one
_OWN = ("dnstrail_signatures.", "dnstrail_fleet.")  # the modules of the signatures that ship with dnstrail


class SignatureFile(msgspec.Struct, frozen=True):
    """The content of a signature file, which nobody but root and the user of the worker can have written."""

    path: Path
    content: bytes


class Found(msgspec.Struct, frozen=True):
    """The signatures that were found, before anything of them was run."""

    installed: tuple[EntryPoint, ...]
    files: tuple[SignatureFile, ...]


def find(paths: Iterable[Path] = (), owner: int | None = None, group: str = GROUP) -> Found:
    """Find the signatures of a group of entry points, and read those in files and folders; run none of them.

    The modules of dnstrail are imported here, since the user as whom the worker goes on may be unable to read them.
    `owner` is that user: files of this user are accepted, too.

    Raises:
        SettingsError: A given file is missing, or others may write it.
    """
    installed = tuple(sorted(entry_points(group=group), key=lambda entry: entry.name))
    for entry in installed:
        if entry.value.startswith(_OWN):
            import_module(entry.value.partition(":")[0])
    owners = set() if owner is None else {owner}
    files = {os.path.realpath(file): file for path in paths for file in _files(path)}  # each once, however it is given
    return Found(installed, tuple(SignatureFile(file, _read(file, owners)) for file in files.values()))


def load(found: Found, known: dict[SignatureFile, list[type[Signature]]] | None = None) -> list[type[Signature]]:
    """Return all signature classes: those of entry points, then those in files. This runs the code of strangers.

    An installed signature that does not load is logged and left out. A given file that does not load is an error. The
    classes of files that are `known` are not loaded again, and those of others become known.

    Raises:
        SettingsError: A given file does not load.
    """
    known = {} if known is None else known
    for file in found.files:
        if file not in known:
            known[file] = _from_file(file)
    return [*_installed(found.installed), *(cls for file in found.files for cls in known[file])]


def _installed(entries: Iterable[EntryPoint]) -> list[type[Signature]]:
    found: list[type[Signature]] = []
    for entry in entries:
        try:
            found += _signatures([entry.load()])
        except Exception as error:  # noqa: BLE001 - somebody else's package must not stop the others
            structlog.get_logger().error("signature_not_loaded", entry_point=entry.value, error=str(error))
    return found


def _files(path: Path) -> list[Path]:
    """Return the file of a path, or the files of a folder without the tests that stand beside what they test."""
    return [file for file in sorted(path.glob("*.py")) if not _is_test(file)] if path.is_dir() else [path]


def _is_test(file: Path) -> bool:
    tested = file.name.removeprefix(TEST)
    return tested != file.name and file.with_name(tested).exists()


def _from_file(file: SignatureFile) -> list[type[Signature]]:
    name = f"dnstrail_signature_{file.path.stem}_{abs(hash(file.path)):x}"
    before, module = sys.modules.get(name), ModuleType(name)
    sys.modules[name] = module
    module.__file__ = str(file.path)
    try:
        exec(compile(file.content, file.path, "exec"), module.__dict__)  # noqa: S102 - running it is its purpose
    except (Exception, SystemExit) as error:
        sys.modules.pop(name) if before is None else sys.modules.update({name: before})
        raise SettingsError(
            f"signature file {file.path}{_line(error, file.path)}: {type(error).__name__}: {error}"
        ) from error
    return _signatures(member for _, member in inspect.getmembers(module) if _is_of(member, name))


def _line(error: BaseException, path: Path) -> str:
    """Return the last line of a file that ran before an error as ", line N"; "" if none ran."""
    lines = [number for frame, number in walk_tb(error.__traceback__) if frame.f_code.co_filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _is_of(member: object, module: str) -> bool:
    return inspect.isclass(member) and member.__module__ == module


def _signatures(candidates: Iterable[Any]) -> list[type[Signature]]:
    """Return the complete signatures among some objects: a base class that several share has no metadata."""
    found = [
        candidate
        for candidate in candidates
        if inspect.isclass(candidate)
        and issubclass(candidate, Signature)
        and isinstance(getattr(candidate, "metadata", None), SignatureMetadata)
    ]
    for cls in found:
        _check_selected_events(cls)
    return found


def _check_selected_events(cls: type[Signature]) -> None:
    """Refuse a signature that would otherwise fail with an obscure error when its events are subscribed to."""
    selected: object = cls.selected_events
    if not isinstance(selected, tuple):
        problem = type(selected).__name__
    elif strangers := [one for one in selected if not isinstance(one, EventSelector)]:
        problem = f"a tuple that holds {strangers[0]!r:.60}"
    else:
        return
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__
    raise SettingsError(
        f"signature file {file}: {cls.__name__}.selected_events is {problem}; it must be a tuple of EventSelector"
    )


def _read(path: Path, owners: set[int]) -> bytes:
    if path.suffix != ".py":
        raise SettingsError(f"signature file {path}: not a Python file")
    return read_trusted(path, "signature file", owners)
