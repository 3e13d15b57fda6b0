"""Programs that send a query: ADDRESS, [kind,] and the query in hexadecimal."""

from __future__ import annotations

# A socket that two processes share: connected by the parent, used by its child.
FORKED = """
import os, socket, sys
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((sys.argv[1], 53))
sock.settimeout(60)
child = os.fork()
if child == 0:
    sock.send(bytes.fromhex(sys.argv[2]))
    sock.recv(600)
    os._exit(0)
os.waitpid(child, 0)
print(child)
"""
# Sends a query, and sends it again for each line of its input.
STAYING = """
import socket, sys
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(60)
while True:
    sock.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 53))
    sock.recv(600)
    if not sys.stdin.readline():
        break
"""
# Opens a socket, connected or not, and sends its query on request.
WAITING = """
import socket, sys
address, kind, message = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
sock.settimeout(60)
if kind == "unconnected":
    sock.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", 0))
else:
    sock.connect((address, 53))
print("open", flush=True)
sys.stdin.readline()
if kind == "tcp":
    sock.sendall(len(message).to_bytes(2, "big") + message)
elif kind == "udp":
    sock.send(message)
else:
    sock.sendto(message, (address, 53))
sock.recv(600)
"""
