"""A bare pyzmq echo on an address, with a socket of the kind that answers lookups: echo.py ADDRESS."""

from __future__ import annotations

import sys

import zmq


def main(address: str) -> None:
    """Return each message to its sender until SIGTERM."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind(address)
        while True:
            socket.send_multipart(socket.recv_multipart())


if __name__ == "__main__":
    main(*sys.argv[1:])
