"""A bare pyzmq echo on an address: echo.py ADDRESS."""

from __future__ import annotations

import sys

import zmq


def main(address: str) -> None:
    """Return each message to its sender until SIGTERM."""
    with zmq.Context() as context, context.socket(zmq.REP) as socket:
        socket.bind(address)
        while True:
            socket.send(socket.recv())


if __name__ == "__main__":
    main(*sys.argv[1:])
