"""The settings of a run, and the rules that they mean for the command."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec

from dnstrail.capture_options import CaptureOptions
from dnstrail.errors import SettingsError
from dnstrail.users import User
from dnstrail_run.allow_list import AllowList, parse_allow_list
from dnstrail_run.asking import Questioner
from dnstrail_run.command_process import refuse_inherited_sockets
from dnstrail_run.enforce.rules import rules_of
from dnstrail_run.files import ListFile, read_list
from dnstrail_run.launcher import Enforce
from dnstrail_run.namespaces import namespaces_of


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the command line states it."""

    command: tuple[str, ...]
    reports: tuple[Path, ...]
    allow: Path | None
    enforce: bool
    on_crash: str
    allow_new_privileges: bool
    any_question: bool
    ask: bool
    check_server_name: bool
    learn: Path | None
    learn_domains: bool
    refusals: str | None
    fail_on: tuple[str, ...]
    follow_containers: bool
    wait_for_all: bool
    getaddrinfo: bool
    quiet: bool
    run_dir: Path | None
    options: CaptureOptions


def enforce_of(settings: Settings, allowed: AllowList | None, user: User | None) -> Enforce | None:
    """Return what `--enforce` holds for a command, None without it; `allowed` is the list, which `user` may extend.

    Raises:
        SettingsError: options contradict each other, the list has too much, or the command would inherit a socket.
    """
    if settings.learn_domains and settings.learn is None:
        raise SettingsError("--allow-learn-domains needs --allow-learn")
    if not settings.enforce:
        if settings.refusals is not None:
            raise SettingsError("--refusals needs --enforce")
        if settings.ask:
            raise SettingsError("--ask needs --enforce")
        if settings.check_server_name:
            raise SettingsError("--check-server-name needs --enforce")
        return None
    if allowed is None or settings.allow is None:
        raise SettingsError("--enforce needs --allow")
    if settings.ask and settings.any_question:
        raise SettingsError("--ask has nothing to ask with --any-question")
    refuse_inherited_sockets()
    return Enforce(
        rules_of(allowed),
        namespaces_of(allowed.resolvers, allowed.narrow),
        settings.on_crash == "allow",
        settings.allow_new_privileges,
        allowed.sockets,
        settings.any_question,
        settings.check_server_name,
        _questioner(settings.allow, allowed, user) if settings.ask else None,
    )


def _questioner(path: Path, allowed: AllowList, user: User | None) -> Questioner:
    def check(text: str) -> None:
        parse_allow_list(text, path, partial(read_list, user=user))

    return Questioner(allowed, ListFile(path, user, check).add)
