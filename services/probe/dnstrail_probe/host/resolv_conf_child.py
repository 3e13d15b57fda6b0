"""A process that reads the resolv.conf of other processes: the child of `resolv_conf_reader.py`."""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address

from dnstrail_probe.host.process_root import open_below, open_root

_PATH = "/etc/resolv.conf"
_LARGEST = 65536  # bytes of a file that are read
_LOOPBACK = (ip_address("127.0.0.1"), ip_address("::1"))  # the default


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


def configured_in(text: str) -> frozenset[bytes]:
    """Return the packed addresses that the text of a resolv.conf names; the loopback addresses if it names none."""
    return frozenset(servers_in(text))


def servers_in(text: str) -> dict[bytes, str]:
    """Return the addresses of `configured_in`, packed and as text; the text has the zone (`%eth0`) of the file."""
    found: dict[bytes, str] = {}
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word != "nameserver" or not rest:
            continue
        text, *zone = rest[0].partition("%")
        try:
            address = ip_address(text)
        except ValueError:
            continue
        address = getattr(address, "ipv4_mapped", None) or address
        found[address.packed] = f"{address}{''.join(zone)}"
    return found or {address.packed: str(address) for address in _LOOPBACK}


if __name__ == "__main__":
    main()
