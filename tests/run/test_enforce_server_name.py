"""The connections that are ended, as the programs report them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.sock_diag import namespace_cookie
from dnstrail_run.enforce import server_name
from dnstrail_run.enforce.server_name import _ENDING, Endings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="to end connections needs root")
# Connects to itself, in the network namespace of its own, and prints its connection until it is ended.
PEER = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
cookies = [one.getsockopt(1, option, 8).hex() for one, option in ((client, 57), (client, 71))]
print(client.getsockname()[1], server.getsockname()[1], *cookies, flush=True)
try:
    client.recv(1)
except OSError as error:
    print(error.errno, flush=True)
"""


def ending(namespace: int, pid: int, ports: tuple[int, int], cookie: int) -> bytes:
    ends = [socket.inet_aton("127.0.0.1")] * 2
    return _ENDING.pack(cookie, namespace, pid, socket.AF_INET, 0, *ports, *ends, bytes(16), bytes(16))


@pytest.mark.parametrize("command", [(), ("unshare", "-rn", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")])
def test_a_connection_is_ended_in_its_namespace(command):
    """A connection of this network namespace is ended, and one of another namespace, which its process has."""
    with subprocess.Popen([*command, sys.executable, "-c", PEER], stdout=subprocess.PIPE, text=True) as process:
        port, to_port, *cookies = process.stdout.readline().split()
        cookie, namespace = (int.from_bytes(bytes.fromhex(one), "little") for one in cookies)
        assert (namespace == namespace_cookie()) == (not command)
        endings = Endings(namespace_cookie())
        ports = int(port), int(to_port)
        elsewhere = ending(namespace, os.getpid() if command else process.pid, ports, cookie + 1)
        endings.end([elsewhere, ending(namespace, process.pid, ports, cookie)])
        assert process.stdout.readline() == "103\n"


def test_a_kernel_that_ends_no_connection(monkeypatch):
    """Without support of the kernel, nothing starts."""
    monkeypatch.setattr(server_name, "can_end_connections", lambda: False)
    with pytest.raises(SourceUnavailable, match="cannot end a connection"):
        Endings(1)
