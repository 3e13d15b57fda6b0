"""A command for `dnstrail run --enforce` that answers itself in the name of a resolver.

Arguments: the address of the resolver, and the own address to send from. It prints the results of the bind to port 53,
and of a connection to the address of the answer. It runs without the packages of the tests.
"""

from __future__ import annotations

import socket
import sys

from live.attempts import PORT, connect, result

ASKING = 5432  # a port that the list allows on the own address
TARGET = "10.97.0.1"  # which no allowed name has
_NAME = b"\1a\7allowed\4test\0"  # as the list allows it
_QUESTION = b"\0\1\1\0\0\1\0\0\0\0\0\0" + _NAME + b"\0\1\0\1"
_ANSWER = b"\0\1\x81\x80\0\1\0\1\0\0\0\0" + _NAME + b"\0\1\0\1\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(TARGET)
_PKTINFO = 8  # of IPv4
_FREEBIND = 78  # of IPv6


def forge(resolver: str, own: str) -> str:
    """Ask the resolver, send its answer from the own port 53, and receive it; return the result of the bind."""
    family = socket.AF_INET6 if ":" in own else socket.AF_INET
    source = socket.inet_pton(family, resolver)
    with socket.socket(family, socket.SOCK_DGRAM) as asker, socket.socket(family, socket.SOCK_DGRAM) as forger:
        asker.bind((own, ASKING))
        asker.sendto(_QUESTION, (resolver, 53))
        if (bound := result(lambda: forger.bind((own, 53)))) != "ok":
            return bound
        if family == socket.AF_INET6:
            forger.setsockopt(socket.IPPROTO_IPV6, _FREEBIND, 1)
            chosen = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, source + bytes(4))
        else:
            chosen = (socket.IPPROTO_IP, _PKTINFO, bytes(4) + source + bytes(4))
        forger.sendmsg([_ANSWER], [chosen], 0, (own, ASKING))
        asker.recv(len(_ANSWER))
        return bound


if __name__ == "__main__":
    print(forge(*sys.argv[1:]), result(lambda: connect(4, TARGET, PORT)))
