"""What the probe needs no more once its source is open, it gives up; by threads, so before it starts any."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dnstrail.bus.ipc import make_folder, socket_path
from dnstrail.process.libc import call
from dnstrail.process.privileges import keep_capabilities

NICENESS = -5  # about three times the share of what is not nice: sched(7)
_AUTOGROUP = Path("/proc/self/autogroup")  # where there is one, niceness counts among the processes of a session alone
# Source -> what it still needs: BPF to read its counters before Linux 5.19, SYS_PTRACE to see what a process runs.
KEPT = {
    "ebpf": ("CAP_BPF", "CAP_SYS_PTRACE"),
    "ebpf:getaddrinfo": ("CAP_BPF", "CAP_SYS_PTRACE"),  # also to link programs to libraries that come
    "packet": (),
}


def give_up_privileges(source: str, address: str) -> None:
    """Let go of all capabilities but those that a live source needs; of a source that is not listed, nothing.

    The user stays who it is. Where the folder of the socket belongs to another one, files are made as that one's.

    Raises:
        BusError: the folder is somebody else's.
    """
    if source not in KEPT:
        return
    folder = socket_path(address).parent
    with suppress(OSError):  # whoever binds there will say so
        make_folder(address, folder)
        status = folder.stat()
        if os.geteuid() == 0:
            call("setfsgid", status.st_gid)
            call("setfsuid", status.st_uid)
    keep_capabilities(*KEPT[source])


def go_first() -> None:
    """Ask the kernel for it, which grants it with CAP_SYS_NICE; without that all goes on as it was."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, min(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
        if os.getsid(0) == os.getpid():  # the session is this worker's own
            _AUTOGROUP.write_text(str(NICENESS))
