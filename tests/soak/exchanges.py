"""Asks a DNS server for fresh names at a steady rate until SIGTERM; prints the number of exchanges, as JSON.

SERVER PORT RATE FILE: each question has an answer from the server; every 50th is asked by a process of its own. The
file contains the number of exchanges so far, in 8 bytes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time

import dns.message

_OWN_PROCESS = 50
_TIMEOUT = 5.0  # seconds


def main(server: str, port: int, rate: int, progress: int) -> None:
    """Ask until SIGTERM; the questions that are due are asked one after the other. `progress` is an open file."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    asking = _socket(server, port)
    began, asked, unanswered = time.monotonic(), 0, 0
    while not stop.wait(0.005):
        due = int((time.monotonic() - began) * rate)
        for number in range(asked, due):
            if number % _OWN_PROCESS:
                unanswered += not ask(asking, number)
            elif not (child := os.fork()):
                os._exit(not ask(_socket(server, port), number))
            else:
                unanswered += os.waitpid(child, 0)[1] != 0
            asked += 1
            os.pwrite(progress, asked.to_bytes(8, "big"), 0)
            if stop.is_set():
                break
    print(json.dumps({"asked": asked, "unanswered": unanswered}))


def ask(asking: socket.socket, number: int) -> bool:
    """Ask for the address of a fresh name; return whether an answer came."""
    asking.send(dns.message.make_query(name_of(number), "A", id=number & 0xFFFF).to_wire())
    try:
        return len(asking.recv(512)) > 0
    except TimeoutError:
        return False


def name_of(number: int) -> str:
    """Return the name that is asked at a place."""
    return f"n{number}.soak.example"


def _socket(server: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.settimeout(_TIMEOUT)
    made.connect((server, port))
    return made


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), os.open(sys.argv[4], os.O_WRONLY))
