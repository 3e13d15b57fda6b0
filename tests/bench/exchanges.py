"""Sends the queries of a capture, and returns their responses as a remote server would.

    exchanges.py CLIENT SERVER CAPTURE RATE SECONDS PORT

CLIENT and SERVER are network namespaces that a link joins. The queries leave by a UDP socket of the client. The
responses are put on the link as frames, so that no socket of this host sends them. It prints the number of messages
that were sent, and the seconds that they took.
"""

from __future__ import annotations

import ctypes
import socket
import sys
from pathlib import Path

import dpkt
from live_events import of_capture

from live.flood import go_first, send_steadily
from live.namespaces import CLIENT, SERVER

_CLONE_NEWNET = 0x40000000
_CLIENT_PORT = 40053
_INTERFACE = "eth0"


def main(client: str, server: str, capture: str, rate: int, seconds: int, port: int) -> None:
    """Send at a steady rate; every millisecond the messages that are due."""
    link, asking = _link(server), _link(client)
    ends = asking.getsockname()[4], link.getsockname()[4]
    asking.close()
    queries = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # in the namespace of the client
    queries.bind((CLIENT, _CLIENT_PORT))
    queries.connect((SERVER, port))
    messages = []
    for event in of_capture(capture):
        payload = event.payload
        is_response = bool(payload[2] & 0x80)
        messages.append((link.send, _frame(payload, port, *ends)) if is_response else (queries.send, payload))

    def send(number: int) -> None:
        through, message = messages[number % len(messages)]
        through(message)

    go_first()
    send_steadily(send, rate, seconds)


def _link(namespace: str) -> socket.socket:
    """Enter a namespace, and return a socket that sends frames by its interface."""
    with Path("/run/netns", namespace).open("rb") as entered:
        if ctypes.CDLL(None, use_errno=True).setns(entered.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    link.bind((_INTERFACE, 0))
    return link


def _frame(payload: bytes, port: int, client: bytes, server: bytes) -> bytes:
    """Return the frame of a response from the server to the client."""
    datagram = dpkt.udp.UDP(sport=port, dport=_CLIENT_PORT, ulen=8 + len(payload), data=payload)
    ends = {"src": socket.inet_aton(SERVER), "dst": socket.inet_aton(CLIENT)}
    packet = dpkt.ip.IP(**ends, p=socket.IPPROTO_UDP, len=28 + len(payload), data=datagram)
    return bytes(dpkt.ethernet.Ethernet(dst=client, src=server, data=packet))


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
