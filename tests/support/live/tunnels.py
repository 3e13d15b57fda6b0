"""Real tunnels through DNS between two hosts: Debian's iodine and dns2tcp.

deploy/setup-tunnels.sh unpacks them; they are not installed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from live.namespaces import SENDER, Hosts, skip
from live.processes import PATIENCE, wait_until

DOMAIN, INSIDE = "t.example.com", "10.77.0.1"
_ROOT = Path(__file__).parents[3] / ".tunnels/root/usr"
IODINE, DNS2TCP = _ROOT / "sbin/iodine", _ROOT / "bin/dns2tcpc"
_PORT = 7000  # of the service behind dns2tcp
_ENTRY = 7001  # of the tunnel at the client
_SINK = """
import socket
listener = socket.create_server(("127.0.0.1", {port}))
print("ready", flush=True)
while True:
    connection = listener.accept()[0]
    while data := connection.recv(65536):
        connection.sendall(data)
"""
_SEND = """
import os, socket
connection = socket.create_connection(("127.0.0.1", {port}), 10)
connection.settimeout(10)
connection.sendall(os.urandom({octets}))
left = {octets}
while left:
    left -= len(connection.recv(65536))
"""


def tunnels_or_skip() -> None:
    """Skip if the tools are not there; fail instead if live tests are required."""
    if not IODINE.exists() or not DNS2TCP.exists():
        skip("iodine and dns2tcp are not unpacked: deploy/setup-tunnels.sh")
    if not Path("/dev/net/tun").exists():
        skip("this host has no /dev/net/tun")


def through_iodine(network: Hosts, folder: Path) -> None:
    """Send pings through a tunnel of iodine."""
    server = [str(IODINE.with_name("iodined")), "-f", "-c", "-P", "secret", "-l", SENDER, INSIDE, DOMAIN]
    client = [str(IODINE), "-f", "-r", "-m", "700", "-P", "secret", SENDER, DOMAIN]
    with (
        _running(network.server, folder / "iodined", server, "Listening"),
        _running(network.client, folder / "iodine", client, "setup complete"),
    ):
        done = network.on_client("ping", "-c30", "-i0.02", "-s200", "-W10", INSIDE)
        assert done.returncode == 0, done.stdout


def through_dns2tcp(network: Hosts, folder: Path, octets: int = 8000) -> None:
    """Send octets through a tunnel of dns2tcp, to a service that sends them back."""
    settings = f"listen = {SENDER}\nport = 53\nuser = root\nchroot = {folder}\nkey = secret\ndomain = {DOMAIN}\n"
    file = folder / "dns2tcpd.conf"
    file.write_text(f"{settings}resources = echo:127.0.0.1:{_PORT}\n")
    server = [str(DNS2TCP.with_name("dns2tcpd")), "-F", "-d", "1", "-f", str(file)]
    client = [str(DNS2TCP), "-z", DOMAIN, "-k", "secret", "-r", "echo", "-l", str(_ENTRY), "-d", "1", SENDER]
    with (
        _running(network.server, folder / "echo", ["python3", "-c", _SINK.format(port=_PORT)], "ready"),
        _running(network.server, folder / "dns2tcpd", server, "Starting Server"),
        _running(network.client, folder / "dns2tcpc", client, "Listening on port"),
    ):
        done = network.on_client("python3", "-c", _SEND.format(port=_ENTRY, octets=octets), timeout=PATIENCE)
        assert done.returncode == 0, done.stderr + (folder / "dns2tcpc").read_text()


@contextmanager
def _running(namespace: str, log: Path, command: list[str], ready: str) -> Iterator[None]:
    """Run a command in a namespace; wait until its output contains a text."""
    with log.open("w") as out:
        process = subprocess.Popen(["ip", "netns", "exec", namespace, *command], stdout=out, stderr=out)
    try:
        wait_until(lambda: ready in log.read_text() or process.poll() is not None, f"{command[0]}: {ready}")
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.kill()
        process.wait(PATIENCE)
