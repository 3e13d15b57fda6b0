"""A process that reads the resolv.conf of other processes: the child of `resolv_conf_reader.py`."""

from __future__ import annotations

import os
import sys

from dnstrail.resolv_conf import configured_in
from dnstrail_probe.host.process_root import open_below, open_root

_PATH = "/etc/resolv.conf"
_LARGEST = 65536  # bytes of a file that are read


def main() -> None:
    """Read a pid from each line; write a line with the resolvers of that process, empty if they are unknown."""
    proc = sys.argv[1]
    for line in sys.stdin:
        servers = _read(proc, int(line)) or ()
        print(*(address.hex() for address in servers), flush=True)  # noqa: T201 - to the process that waits for it


def _read(proc: str, pid: int) -> frozenset[bytes] | None:
    """Return the servers in the file of a process; None if there is no regular file, or it may not be read."""
    try:
        with open_root(pid, proc) as root, open_below(root, _PATH) as file:
            return configured_in(os.read(file, _LARGEST).decode(errors="replace"))
    except OSError:
        return None


if __name__ == "__main__":
    main()
