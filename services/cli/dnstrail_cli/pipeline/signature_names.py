"""The names of the events that signatures report, from a short-lived process: this one runs no signature."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.process.clock import Clock
from dnstrail.process.command import LOG_LEVEL
from dnstrail.process.config_file import NO_FILE
from dnstrail.process.signals import PARENT
from dnstrail.users import User
from dnstrail_signatures.loading.names import Names

PATIENCE = 20.0  # seconds for the names
MAX_REPLY = 65_536  # bytes
_CHUNK = 4_096


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
