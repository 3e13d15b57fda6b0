"""Reports what this host can do for the probe, with a remedy for each lack (`probe --check`).

Each source module contains its own checks, as `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from dnstrail.capture_options import CaptureOptions
from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.capabilities import missing_capabilities
from dnstrail_probe.registry import SOURCES
from dnstrail_probe.source import SUDO

_LONGEST_REASON = 200  # characters: an error of bcc can contain the text of a program

T = TypeVar("T")


class Host:
    """The host to check: the options, the run-dir, and everything that an earlier check has loaded.

    Invariant: nothing is loaded twice, also if it was unavailable the first time.
    """

    def __init__(self, options: CaptureOptions, run_dir: Path) -> None:
        self.options = options
        self.run_dir = run_dir
        self._loaded: dict[Callable[[CaptureOptions], object], Any] = {}

    def once(self, load: Callable[[CaptureOptions], T]) -> T:
        """Return what `load(options)` returns, or raise the SourceUnavailable that it raises; call it only once."""
        if load not in self._loaded:
            try:
                self._loaded[load] = load(self.options)
            except SourceUnavailable as error:
                self._loaded[load] = error
        loaded: T | SourceUnavailable = self._loaded[load]
        if isinstance(loaded, SourceUnavailable):
            raise loaded
        return loaded


class Check(msgspec.Struct, frozen=True):
    """One row: something that a source needs. `run` raises an error if the host lacks it.

    `remedy` applies unless the error carries its own. A source whose `decisive` checks pass can be opened.
    """

    name: str
    purpose: str
    run: Callable[[Host], object]
    remedy: str
    decisive: bool = False


class CheckResult(msgspec.Struct, frozen=True):
    """The outcome of one check. `reason` and `remedy` are "" exactly if the host is able."""

    name: str
    purpose: str
    able: bool
    reason: str = ""
    remedy: str = ""


class CheckReport(msgspec.Struct, frozen=True):
    """The results of all checks, the source that `--capture auto` would open, and whether that source is live."""

    auto: str
    live: bool
    checks: list[CheckResult]


def check_host(options: CaptureOptions, run_dir: Path) -> CheckReport:
    """Run all checks. Programs are loaded and sockets opened for a moment, and everything is released again."""
    host = Host(options, run_dir)
    results: list[CheckResult] = []
    openable = []
    for entry in SOURCES:
        rows = [(check, run_check(check, host)) for check in getattr(import_module(entry.module), "CHECKS", ())]
        results += [result for _, result in rows]
        if entry.automatic and all(result.able for check, result in rows if check.decisive):
            openable.append(entry)
    auto = openable[0]
    return CheckReport(auto.name, auto.live, results)


def run_check(check: Check, host: Host) -> CheckResult:
    """Run one check."""
    try:
        check.run(host)
    except SourceUnavailable as error:
        return _unable(check, error.reason, error.remedy)
    except (OSError, ValueError, KeyError) as error:
        return _unable(check, getattr(error, "strerror", None) or str(error))
    return CheckResult(check.name, check.purpose, able=True)


def capability(name: str, purpose: str) -> Check:
    """Return the check for one capability."""

    def run(_: Host) -> None:
        if missing_capabilities(name):
            raise OSError("not in effect")

    return Check(name, purpose, run, SUDO)


def _unable(check: Check, reason: str, remedy: str = "") -> CheckResult:
    return CheckResult(check.name, check.purpose, False, reason[:_LONGEST_REASON], remedy or check.remedy)
