"""Encrypted connections to other hosts (CURVE): both ends check the key of the other one."""

from __future__ import annotations

from pathlib import Path

import zmq

from dnstrail.bus.authenticator import Authenticator
from dnstrail.bus.handshakes import PATIENCE
from dnstrail.bus.keys import Keys, ServerKey
from dnstrail.bus.remote_host import RemoteHost
from dnstrail.bus.tcp import host_of, is_tcp
from dnstrail.errors import BusError

_LEAST_SIZE = 1024  # bytes of a message: a handshake fits
_LEAST_WAITING = 2  # messages: the name of the client counts as one that is never read
_KEEPALIVE = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 30,
    zmq.TCP_KEEPALIVE_INTVL: 10,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 30_000,  # ms after which a connection to a host that is gone ends
}
_NO_KEYS = "tcp without keys is refused: make keys with `dnstrail keys new` in the folder DNSTRAIL_KEYS"


class Curve:
    """The connections of one context to other hosts. The first bind starts the authentication of clients."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys | None) -> None:
        self._context = context
        self._keys = keys
        self._authenticator: Authenticator | None = None

    def bind(self, socket: zmq.Socket[bytes], address: str, inner: Path) -> None:
        """Bind a socket at a path of this process alone, to which the relay leads the clients of an address.

        Raises:
            BusError: there are no keys, or the address has another form.
            ZMQError: the path cannot be bound.
        """
        keys = self._prepare(socket, address)
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.HANDSHAKE_IVL, int(PATIENCE * 1000))
        if int(socket.getsockopt(zmq.MAXMSGSIZE)) < _LEAST_SIZE:
            socket.setsockopt(zmq.MAXMSGSIZE, _LEAST_SIZE)
        if int(socket.getsockopt(zmq.RCVHWM)) < _LEAST_WAITING:
            socket.setsockopt(zmq.RCVHWM, _LEAST_WAITING)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        if self._authenticator is None:
            self._authenticator = Authenticator(self._context, keys.folder)
        socket.setsockopt(zmq.ZAP_DOMAIN, address.encode())
        socket.bind(f"ipc://{inner}")

    def connect(self, socket: zmq.Socket[bytes], address: str, by: str) -> None:
        """Connect a socket to a server whose key is known, by an address that leads there.

        Raises:
            BusError: there are no keys, none of this server, or the address has another form.
        """
        keys = self._prepare(socket, address)
        socket.setsockopt(zmq.CURVE_SERVERKEY, self._server_at(address).public.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
        if is_tcp(by):  # the relay does the same for others
            socket.setsockopt(zmq.IPV6, ":" in host_of(by))
            for option, value in _KEEPALIVE.items():
                socket.setsockopt(option, value)
        socket.connect(by)

    def remote_at(self, address: str) -> RemoteHost:
        """Return the host of the server at an address, as its key identifies it.

        Raises:
            BusError: as `connect` does.
        """
        return self._server_at(address).remote

    def close(self) -> None:
        """End the authentication."""
        if self._authenticator is not None:
            self._authenticator.close()
            self._authenticator = None

    def _server_at(self, address: str) -> ServerKey:
        host = host_of(address)
        if self._keys is None:
            raise BusError(address, _NO_KEYS)
        server = self._keys.servers.get(host)
        if server is None:
            raise BusError(address, f"its key is not known: run `dnstrail keys allow --server {host} KEY`")
        return server

    def _prepare(self, socket: zmq.Socket[bytes], address: str) -> Keys:
        host_of(address)
        if self._keys is None:
            raise BusError(address, _NO_KEYS)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret.encode())
        return self._keys
