"""The clients of other hosts that may connect: their keys are read anew when their folder changes."""

from __future__ import annotations

import time
from pathlib import Path

from dnstrail.bus.keys import CLIENTS, public_keys
from dnstrail.bus.trust import FolderState, folder_state
from dnstrail.errors import BusError

_TICK = 1_000_000_000  # ns: a folder that changed so recently may change again within the same time stamp


class AllowedClients:
    """The names of the allowed clients by their public keys.

    A folder that cannot be read allows nobody. Its fault is logged once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._state: FolderState | None = None
        self._names: dict[str, str] = {}
        self._fault = ""

    def name_of(self, key: str) -> str | None:
        """Return the name of the client with a public key; None if it is not allowed."""
        state = folder_state(self._folder / CLIENTS)
        if state is None or state != self._state:
            self._names = self._read()
            settled = state is not None and time.time_ns() - state[2] > _TICK
            self._state = state if settled else None
        return self._names.get(key)

    def _read(self) -> dict[str, str]:
        names, fault = {}, ""
        try:
            names = {key: name for name, key in public_keys(self._folder, CLIENTS).items()}
        except (BusError, OSError) as error:
            fault = str(error)
        if fault and fault != self._fault:
            import structlog  # noqa: PLC0415 - it takes 0.1 s, and lookups do without

            structlog.get_logger().error("keys_refused", reason=fault)
        self._fault = fault
        return names
