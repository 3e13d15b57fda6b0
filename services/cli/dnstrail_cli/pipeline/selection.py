"""The events and signatures that a run shows: those that --events names, and the names that the signatures report."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.events import DNS_ANSWER_CONFLICT, NAMES, NET_PACKET_DNS
from dnstrail.process.clock import Clock
from dnstrail.process.command import LOG_LEVEL
from dnstrail.process.config_file import NO_FILE
from dnstrail.process.signals import PARENT
from dnstrail.users import User
from dnstrail_signatures.loading.names import Names

PATIENCE = 20.0  # seconds for the names
MAX_REPLY = 65_536  # bytes
_CHUNK = 4_096


class Selection(msgspec.Struct, frozen=True):
    """The events to show, and the signatures whose findings to show."""

    events: tuple[str, ...]
    findings: tuple[str, ...]


def select(names: Iterable[str], findings: tuple[str, ...], enabled: tuple[str, ...]) -> Selection:
    """Return the selection of all `--events` flags; without any: DNS packets, answer conflicts and enabled findings.

    `findings` are the events that the signatures report, those of the files among them. `enabled` are those of the
    signatures that run although no user names them.

    Raises:
        SettingsError: a name is unknown; the text lists the known names.
    """
    chosen = [name.strip() for given in names for name in given.split(",")] or [
        NET_PACKET_DNS,
        DNS_ANSWER_CONFLICT,
        *enabled,
    ]
    for name in chosen:
        if name not in NAMES and name not in findings:
            raise SettingsError(_unknown(name, (*NAMES, *findings)))
    return Selection(
        tuple(name for name in NAMES if name in chosen),
        tuple(name for name in findings if name in chosen),
    )


def _unknown(name: str, known: tuple[str, ...]) -> str:
    """Return the error for an unknown name: the nearest known one, and all others."""
    lowered = {one.lower(): one for one in known}
    nearest = get_close_matches(name.lower()[:100], lowered, 1)
    hint = f"did you mean {lowered[nearest[0]]}? " if nearest else ""
    return f"--events: unknown event {name!r:.120}: {hint}known: {', '.join(known)}"


def signature_names(paths: Iterable[Path], user: User | None, clock: Clock, config: str = NO_FILE) -> Names:
    """Return the names of the events of all signatures, and of the enabled ones.

    The process that finds them runs as this user.

    Raises:
        SettingsError: a signature file or the settings are wrong, or the signatures take too long or print too
            much.
    """
    command = [sys.executable, "-P", "-m", "dnstrail_signatures", "--names", "--config", config]
    command += [word for path in paths for word in ("--signatures", str(path))]
    command += [] if user is None else ["--user", f"{user.uid}:{user.gid}"]
    process = subprocess.Popen(  # noqa: S603 - our own module
        command,
        env={**os.environ, LOG_LEVEL: "error", PARENT: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        reply = _read(process, clock)
    finally:
        process.kill()
        process.wait()
    try:
        found = msgspec.json.decode(reply, type=Names)
    except msgspec.MsgspecError as error:
        raise SettingsError("the signatures did not load: see the lines above") from error
    if found.error:
        raise SettingsError(found.error)
    return found


def _read(process: subprocess.Popen[bytes], clock: Clock) -> bytes:
    """Return the first line that a process prints, up to a bound and for a bounded time."""
    reply, deadline = b"", clock.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        with process.stdout as pipe:
            selector.register(pipe, selectors.EVENT_READ)
            while not reply.endswith(b"\n"):
                if not selector.select(max(deadline - clock.monotonic(), 0)):
                    raise SettingsError(f"the signatures took more than {PATIENCE:.0f} seconds to load")
                chunk = os.read(pipe.fileno(), _CHUNK)
                reply += chunk
                if not chunk or len(reply) > MAX_REPLY:
                    break
    return reply[:MAX_REPLY]
