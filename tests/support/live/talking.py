"""Connections of a client of which a test states how they end."""

from __future__ import annotations

import sys
from collections.abc import Callable

from live.namespaces import SERVER, Hosts
from live.processes import wait_until

# Connects to a name and a port, sends a question of DNS, prints the bytes sent and received, and ends as it is told.
TALK = """
import socket, sys
name, port = sys.argv[1], int(sys.argv[2])
try:
    end = socket.create_connection((socket.gethostbyname(name), port))
except OSError:
    sys.exit()
message = bytes.fromhex("abcd01000001000000000000") + b"\\6google\\3com\\0\\0\\1\\0\\1"
end.sendall(len(message).to_bytes(2, "big") + message)
size = int.from_bytes(end.recv(2, socket.MSG_WAITALL), "big")
end.recv(size, socket.MSG_WAITALL)
print(2 + len(message), 2 + size, flush=True)
if sys.stdin.readline() == "close\\n":
    end.close()
    sys.stdin.readline()
"""


def await_collection(network: Hosts, received: Callable[[], object]) -> None:
    """Connect until a stage arrives: the cache then collects the connections."""
    # The program outlives its connection: else the connection may end with the process.
    connect = "import socket, sys; s = socket.create_connection((sys.argv[1], 53)); s.shutdown(1); s.recv(1); s.close()"
    wait_until(lambda: network.on_client(sys.executable, "-c", connect, SERVER) and received(), "a stage")
