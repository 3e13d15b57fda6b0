"""The identity of the watched host: its name, its machine id, and the id of its boot."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dnstrail.process.clock import boot_id
from dnstrail.protocol.batches import HostIdentity

_MACHINE_ID = Path("/etc/machine-id")  # machine-id(5)
_LENGTH = 32  # hexadecimal digits


def host_identity() -> HostIdentity:
    """Return the identity of this host."""
    machine_id = ""
    with suppress(OSError, ValueError):
        machine_id = _MACHINE_ID.read_text(encoding="utf-8").strip()[:_LENGTH]
    return HostIdentity(os.uname().nodename, machine_id, boot_id=boot_id())
