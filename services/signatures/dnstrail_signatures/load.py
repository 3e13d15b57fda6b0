"""Where signatures come from: entry points of installed packages, and files named on the command line."""

from __future__ import annotations

import importlib.util
import inspect
import os
import stat
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import structlog

from dnstrail.errors import SettingsError
from dnstrail.signature import Signature, SignatureMetadata

GROUP = "dnstrail.signatures"


def load(paths: Iterable[Path] = ()) -> list[type[Signature]]:
    """All signature classes: those of entry points, then those in the files and folders given.

    Raises:
        SettingsError: a file given is not there, may be written by others, or does not load.
    """
    return [*_installed(), *(cls for path in paths for file in _files(path) for cls in _from_file(file))]


def _installed() -> list[type[Signature]]:
    found: list[type[Signature]] = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            found += _signatures([entry.load()])
        except Exception as error:  # noqa: BLE001 - somebody else's package must not stop the others
            structlog.get_logger().error("signature_not_loaded", entry_point=entry.value, error=str(error))
    return found


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.py")) if path.is_dir() else [path]


def _from_file(path: Path) -> list[type[Signature]]:
    _refuse_if_writable(path)
    name = f"dnstrail_signature_{path.stem}_{abs(hash(path.resolve())):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingsError(f"signature file {path}: no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise SettingsError(f"signature file {path}: {type(error).__name__}: {error}") from error
    return _signatures(member for _, member in inspect.getmembers(module) if _is_of(member, name))


def _is_of(member: object, module: str) -> bool:
    return inspect.isclass(member) and member.__module__ == module


def _signatures(candidates: Iterable[Any]) -> list[type[Signature]]:
    """The signatures that are complete; a base class that others share has no metadata of its own."""
    return [
        candidate
        for candidate in candidates
        if inspect.isclass(candidate)
        and issubclass(candidate, Signature)
        and isinstance(getattr(candidate, "metadata", None), SignatureMetadata)
    ]


def _refuse_if_writable(path: Path) -> None:
    """What others may write would run with this worker's rights."""
    try:
        statuses = [path.stat(), path.parent.stat(), path.resolve().parent.stat()]
    except OSError as error:
        raise SettingsError(f"signature file {path}: {error.strerror}") from error
    for status in statuses:
        sticky_folder = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        if status.st_uid not in (0, os.geteuid()) or (status.st_mode & stat.S_IWOTH and not sticky_folder):
            raise SettingsError(f"signature file {path}: others may write it or its folder; refused")
