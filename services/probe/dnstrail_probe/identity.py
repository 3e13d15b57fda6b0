"""The identity of the watched host: its name, its machine id, and the id of its boot."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dnstrail.bus.remote_host import start_of
from dnstrail.process.clock import boot_id

_MACHINE_ID = Path("/etc/machine-id")  # machine-id(5)
_LENGTH = 32  # hexadecimal digits


class HostIdentity(NamedTuple):
    """The host of an event, and the digest of the key of the probe.

    The fields of the host are "" where it is unknown, as in a capture file. `key` is "" for a probe that publishes on
    its own host alone.
    """

    host: str = ""
    machine_id: str = ""
    key: str = ""
    boot_id: str = ""

    def new_start(self) -> str:
        """Return the id of a new start. Subscribers of all hosts know it by this id."""
        random = secrets.token_hex(8)
        return start_of(self.key, random) if self.key else random


UNKNOWN = HostIdentity()


def host_identity() -> HostIdentity:
    """Return the identity of this host."""
    machine_id = ""
    with suppress(OSError, ValueError):
        machine_id = _MACHINE_ID.read_text(encoding="utf-8").strip()[:_LENGTH]
    return HostIdentity(os.uname().nodename, machine_id, boot_id=boot_id())
