"""The identity of the watched host: its name, and its machine id."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_MACHINE_ID = Path("/etc/machine-id")  # machine-id(5)
_LENGTH = 32  # hexadecimal digits


class HostIdentity(NamedTuple):
    """The host of an event. Both fields are "" where it is unknown, as in a capture file."""

    host: str = ""
    machine_id: str = ""


UNKNOWN = HostIdentity()


def host_identity() -> HostIdentity:
    """Return the identity of this host."""
    machine_id = ""
    with suppress(OSError, ValueError):
        machine_id = _MACHINE_ID.read_text(encoding="utf-8").strip()[:_LENGTH]
    return HostIdentity(os.uname().nodename, machine_id)
