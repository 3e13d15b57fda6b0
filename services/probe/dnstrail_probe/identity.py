"""The identity of the watched host: its name, and its machine id."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dnstrail.bus.remote_host import start_of

_MACHINE_ID = Path("/etc/machine-id")  # machine-id(5)
_LENGTH = 32  # hexadecimal digits


class HostIdentity(NamedTuple):
    """The host of an event, and the digest of the key of the probe.

    The first two fields are "" where the host is unknown, as in a capture file. `key` is "" for a probe that publishes
    on its own host alone.
    """

    host: str = ""
    machine_id: str = ""
    key: str = ""

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
    return HostIdentity(os.uname().nodename, machine_id)
