"""The settings of a run."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dnstrail.capture_options import CaptureOptions


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the command line states it."""

    command: tuple[str, ...]
    reports: tuple[Path, ...]
    allow: Path | None
    enforce: bool
    on_crash: str
    allow_new_privileges: bool
    learn: Path | None
    learn_domains: bool
    fail_on: tuple[str, ...]
    follow_containers: bool
    wait_for_all: bool
    getaddrinfo: bool
    quiet: bool
    run_dir: Path | None
    options: CaptureOptions

    @property
    def allow_afterwards(self) -> bool:
        """True if --enforce allows all connections after dnstrail was killed."""
        return self.on_crash == "allow"

    @property
    def judges(self) -> bool:
        """True if the exit code depends on the report."""
        return self.allow is not None or bool(self.fail_on)
