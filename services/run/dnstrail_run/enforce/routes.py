"""The interfaces of the routes to the resolvers: a resolver's packets count from there alone.

The launcher sends an empty datagram to each resolver of a network namespace, from a socket that belongs to the cgroup
and the user of the command. Routes, rules and NAT lead it as they lead the questions of the command, and `on_egress`
notes the interface by which it leaves. The questions themselves prove nothing: the command can bind its sockets to any
interface.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.sock_diag import namespace_cookie
from dnstrail.users import User
from dnstrail_run.cgroup import CommandCgroup
from dnstrail_run.command_process import become
from dnstrail_run.namespaces import NetworkNamespace, enter

_DNS = 53
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
# Multicast groups of rtnetlink(7): links, and the routes and rules of both families.
_GROUPS = 0x1 | 0x40 | 0x400 | 0x80 | 0x40000
_SOL_NETLINK, _NO_ENOBUFS = 270, 5  # of netlink(7)


class Routes:
    """The routes to the resolvers of a network namespace, which `learn` follows. `fileno` is readable after changes."""

    def __init__(
        self, cgroup: CommandCgroup, user: User | None, namespace: NetworkNamespace, guide: Callable[[int], None]
    ) -> None:
        self._resolvers = [*namespace.resolvers.values()]
        self._changes, *guides = _sockets_within(namespace, cgroup, user)
        self._guides = {made.family: made for made in guides}
        for made in self._guides.values():
            guide(made.fileno())
        self.learn()

    def fileno(self) -> int:
        """Return the descriptor of the socket that receives the changes of routes."""
        return self._changes.fileno()

    def learn(self) -> None:
        """Forget the changes, and send to each resolver. One without a route keeps its interface."""
        with suppress(BlockingIOError):
            while self._changes.recv(65536):
                pass
        for resolver in self._resolvers:
            family = socket.AF_INET6 if ":" in resolver else socket.AF_INET
            with suppress(KeyError, OSError):
                self._guides[family].sendto(b"", (resolver, _DNS))

    def close(self) -> None:
        """Close the sockets."""
        for made in (self._changes, *self._guides.values()):
            made.close()


def _sockets_within(namespace: NetworkNamespace, cgroup: CommandCgroup, user: User | None) -> list[socket.socket]:
    """Return a socket that receives changes of routes, and a UDP socket of each family that a network namespace has.

    A process in the cgroup, of the user, makes the UDP sockets.

    Raises:
        SourceUnavailable: there is none; or another namespace has the path now, whose resolvers have no rules.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if (child := os.fork()) == 0:
            try:
                enter(namespace.path)
                if namespace.cookie not in (0, namespace_cookie()):
                    os._exit(0)
                changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
                changes.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)  # one change says as much as those that were dropped
                changes.bind((0, _GROUPS))
                cgroup.add(os.getpid())
                if user is not None:
                    become(user)
                made = [changes]
                for family in _FAMILIES:
                    with suppress(OSError):
                        made.append(socket.socket(family, socket.SOCK_DGRAM))
                socket.send_fds(theirs, [b"x"], [one.fileno() for one in made])
            finally:
                os._exit(0)
        theirs.close()
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1 + len(_FAMILIES))
        os.waitpid(child, 0)
    if len(descriptors) < 2:  # noqa: PLR2004 - without a UDP socket
        raise SourceUnavailable("enforce", "no socket can be made in the cgroup of the command", "run it as root")
    for one in descriptors:
        os.set_inheritable(one, False)  # the command could bind it to any interface
    return [socket.socket(fileno=one) for one in descriptors]
