"""Privileges of the probe: it gives up every capability that its source does not need once it is open.

Capabilities belong to threads. Threads of a source drop their own; later threads inherit from this one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dnstrail.bus.ipc import make_folder, socket_path
from dnstrail.kernel.capabilities import keep_capabilities
from dnstrail.kernel.libc import call

NICENESS = -5  # gives about three times the CPU share of niceness 0: sched(7)
_AUTOGROUP = Path("/proc/self/autogroup")  # where it exists, niceness only counts within one session


def give_up_privileges(capabilities: tuple[str, ...], address: str) -> None:
    """Drop all capabilities except these; () drops every one.

    The user id stays. If the folder of the socket belongs to another user, new files are created as that user's.

    Raises:
        BusError: the folder belongs to another user.
    """
    folder = socket_path(address).parent
    with suppress(OSError):  # the bind reports it
        make_folder(address, folder)
        status = folder.stat()
        if os.geteuid() == 0:
            call("setfsgid", status.st_gid)
            call("setfsuid", status.st_uid)
    keep_capabilities(*capabilities)


def go_first() -> None:
    """Raise the priority of the probe where the kernel allows it (CAP_SYS_NICE), so that bursts lose fewer events."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
        if os.getsid(0) == os.getpid():  # the session belongs to this worker
            _AUTOGROUP.write_text(str(NICENESS))
