"""Two hosts for `dnstrail run --enforce`: resolvers with many names, and a server that has all their addresses."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from live.attempts import allowed_address, allowed_name, other_address, other_name
from live.crafted_answers import stranger_of
from live.namespaces import Hosts, dnsmasq, hosts
from live.processes import wait_until
from live.server_process import serving

RESOLVER, RESOLVER6 = "10.99.0.10", "fd99::10"
CRAFTING = "10.99.0.20"  # a resolver of crafted answers
FOREIGN, FOREIGN6 = "10.99.0.3", "fd99::3"
SHARED = "10.98.200.1"  # of shared.test, which the list allows, and of fourth.test
TARGET = "10.98.200.2"  # of target.other.test, to which alias.test leads
_OF_MARKERS = "10.98.25"  # addresses of no name: one that was used before may be written late
_MARKERS = (f"{_OF_MARKERS}{third}.{last}" for third in range(6) for last in range(1, 255))
ALLOW_LIST = "*.allowed.test:80,8080\nshared.test\nalias.test:80\n"
_NETWORKS = ("10.98.0.0/16", "10.97.0.0/16", "fd98::/64", "fd97::/64")
# Accepts everything, and writes a line for each: the transport, and the address that was meant.
_SERVES = """
import select, socket
server = socket.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True, backlog=512)
datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
datagrams.bind(("::", 80))
print("ready", flush=True)
while True:
    for one in select.select([server, datagrams], [], [])[0]:
        if one is server:
            connection, _ = server.accept()
            with connection:
                print("tcp", connection.getsockname()[0].removeprefix("::ffff:"), flush=True)
        else:
            _, parts, _, _ = datagrams.recvmsg(100, 100)
            address = socket.inet_ntop(socket.AF_INET6, parts[0][2][:16])
            print("udp", address.removeprefix("::ffff:"), flush=True)
"""


@dataclass(frozen=True)
class ListedNetwork:
    """The hosts, and the file in which the server writes what reached it."""

    hosts: Hosts
    seen_file: Path

    def seen(self) -> Counter[tuple[str, str]]:
        """Return the transports and addresses that reached the server so far.

        The server may write later than a client ends: what it writes before the lines of a marker is whole.
        """
        marker = next(_MARKERS)

        def has_marker() -> bool:
            self.hosts.on_client("bash", "-c", f"echo > /dev/tcp/{marker}/80; echo > /dev/udp/{marker}/80")
            return self._written().keys() >= {("tcp", marker), ("udp", marker)}

        wait_until(has_marker, "the server")
        return Counter({end: count for end, count in self._written().items() if not end[1].startswith(_OF_MARKERS)})

    def _written(self) -> Counter[tuple[str, str]]:
        lines = self.seen_file.read_text().splitlines(keepends=True)[1:]
        return Counter((*line.split(),) for line in lines if line.endswith("\n"))

    def ask(self, *resolvers: str) -> None:
        """Configure the resolvers of the client."""
        text = "".join(f"nameserver {resolver}\n" for resolver in resolvers)
        (Path("/etc/netns") / self.hosts.client / "resolv.conf").write_text(text)


@contextmanager
def listed_network(folder: Path, names: int, *records: str) -> Iterator[ListedNetwork]:
    """Make the hosts, with this number of names of each kind; `records` are further options of dnsmasq."""
    with ExitStack() as stack:
        both = stack.enter_context(hosts())
        _join(both)
        table = folder / "hosts"
        table.write_text(_hosts(names))
        options = (f"--addn-hosts={table}", "--cname=alias.test,target.other.test", *records)
        resolvers = (RESOLVER, RESOLVER6, FOREIGN, FOREIGN6)
        for address in resolvers:
            # A client may be killed, and leave a connection open: it must not stop the server.
            stack.enter_context(dnsmasq(both.server, address, 53, "/google.com/10.99.0.1", *options, forks=True))
        wait_until(lambda: dns_sockets(both.server) > len(resolvers), "the resolvers, beside that of `hosts`")
        yield ListedNetwork(both, stack.enter_context(serving(both, folder / "seen", sys.executable, "-c", _SERVES)))


def _join(both: Hosts) -> None:
    for address in (
        f"{RESOLVER}/24",
        f"{CRAFTING}/24",
        f"{stranger_of(CRAFTING)}/24",
        f"{RESOLVER6}/64",
        f"{FOREIGN6}/64",
    ):
        _ip("-n", both.server, "addr", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
    for network in _NETWORKS:
        _ip("-n", both.server, "route", "add", "local", network, "dev", "lo")
        _ip("-n", both.client, "route", "add", network, "via", RESOLVER6 if ":" in network else RESOLVER)


def dns_sockets(host: str) -> int:
    """Return how many UDP sockets of a host have port 53."""
    command = ["ip", "netns", "exec", host, "cat", "/proc/net/udp", "/proc/net/udp6"]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return sum(line.split()[1].endswith(":0035") for line in table.splitlines())


def _hosts(names: int) -> str:
    lines = [f"{SHARED} shared.test", f"{SHARED} fourth.test", f"{TARGET} target.other.test"]
    for number in range(names):
        for version in (4, 6):
            lines.append(f"{allowed_address(version, number)} {allowed_name(version, number)}")
            lines.append(f"{other_address(version, number)} {other_name(version, number)}")
    lines += [f"10.98.201.{last} many.allowed.test" for last in range(1, 101)]
    return "\n".join(lines) + "\n"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
