"""The sockets that this process would hand on to a command. Their cgroup is another one: no list applies to them."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from dnstrail.errors import SettingsError

_DESCRIPTORS = Path("/proc/self/fd")


def refuse_inherited_sockets() -> None:
    """Refuse to hand on a socket of another family than Unix.

    Raises:
        SettingsError: there is one; the text names its descriptor.
    """
    for name in sorted(int(each.name) for each in _DESCRIPTORS.iterdir()):
        with suppress(OSError):  # the descriptor of the folder, which is closed by now
            if _is_handed_on(name):
                raise SettingsError(
                    f"--enforce: descriptor {name} is an open socket, to which no list applies: close it ({name}>&-)"
                )


def _is_handed_on(descriptor: int) -> bool:
    if not os.get_inheritable(descriptor) or not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as inherited:
        return inherited.family != socket.AF_UNIX
