"""The connections behind the descriptors that the bus names."""

from __future__ import annotations

import os
import socket


def socket_of(descriptor: int) -> socket.socket:
    """Return a socket of the connection behind a descriptor of the bus, with a descriptor of its own.

    Raises:
        OSError: the connection has ended. The descriptor is closed, or belongs to something else.
    """
    own = os.dup(descriptor)
    try:
        return socket.socket(fileno=own)
    except OSError:
        os.close(own)
        raise
