"""The network namespaces of a run: its own and those that root has named (ip-netns(8)), each with its resolvers."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.kernel.libc import call
from dnstrail.kernel.sock_diag import namespace_cookie
from dnstrail.resolv_conf import servers_in

#: network namespaces with known resolvers -> those without a `resolv.conf` of their own are left out first: answers
#: there do not count
MOST_NAMESPACES = 64
#: resolvers of a network namespace that `--enforce` allows -> DNS to the others is refused; those of the list come
#: first, and more of them are an error
MOST_RESOLVERS = 64
_OWN = Path("/proc/self/ns/net")
_NAMED = Path("/run/netns")
_CONFIGURED = Path("/etc/netns")  # which `ip netns exec` puts over /etc
_RESOLV_CONF = Path("/etc/resolv.conf")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET


class NetworkNamespace(msgspec.Struct, frozen=True):
    """A network namespace: the path that opens it, its cookie (0: unknown), and its resolvers.

    `resolvers` has the packed address of each resolver, with its text and zone. `narrow` are those of single names.
    """

    path: str
    cookie: int
    resolvers: dict[bytes, str]
    narrow: frozenset[bytes] = frozenset()


def own_namespace() -> NetworkNamespace:
    """Return the namespace of this process."""
    return NetworkNamespace(str(_OWN), _cookie_of(_OWN), _resolvers_in(_RESOLV_CONF))


def named_namespaces() -> Iterator[NetworkNamespace]:
    """Yield the other namespaces that have a name; those with a resolv.conf of their own come first.

    The others have the resolvers of this process. A process that lacks the rights to enter them finds none.
    """
    own = _RESOLV_CONF
    with suppress(OSError):
        for path in sorted(_NAMED.iterdir(), key=lambda path: (not _resolv_conf_of(path).exists(), path)):
            configured = _resolv_conf_of(path)
            with suppress(OSError):  # removed meanwhile, or no namespace
                if not path.samefile(_OWN) and (cookie := _cookie_of(path)):
                    yield NetworkNamespace(str(path), cookie, _resolvers_in(configured if configured.exists() else own))


def namespaces_of(listed: Mapping[bytes, str], narrow: Mapping[bytes, str] | None = None) -> list[NetworkNamespace]:
    """Return the own namespace and the first named ones, with the `listed` resolvers, which serve them all.

    `narrow` resolvers serve single names.

    Raises:
        SettingsError: too many resolvers are listed.
    """
    own = {**listed, **(narrow or {})}
    if len(own) > MOST_RESOLVERS:
        raise SettingsError(f"the list has {len(own)} entries `resolver`; {MOST_RESOLVERS} at most")
    found = itertools.islice(itertools.chain([own_namespace()], named_namespaces()), MOST_NAMESPACES)
    return [
        msgspec.structs.replace(
            one,
            resolvers=_first({**own, **one.resolvers}),
            narrow=frozenset(own) - listed.keys() - one.resolvers.keys(),
        )
        for one in found
    ]


def enter(path: str) -> None:
    """Move this thread into a network namespace, unless it is that of this process.

    Raises:
        OSError: there is none, or this process lacks CAP_SYS_ADMIN.
    """
    if path == str(_OWN):
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        call("setns", descriptor, _NEW_NETWORK)
    finally:
        os.close(descriptor)


def _first(resolvers: Mapping[bytes, str]) -> dict[bytes, str]:
    return dict(itertools.islice(resolvers.items(), MOST_RESOLVERS))


def _resolv_conf_of(path: Path) -> Path:
    return _CONFIGURED / path.name / "resolv.conf"


def _resolvers_in(path: Path) -> dict[bytes, str]:
    try:
        return servers_in(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return servers_in("")


def _cookie_of(path: Path) -> int:
    """Return the cookie of a namespace, which a thread of its own enters; 0 if it is unknown."""
    found = [0]

    def read() -> None:
        with suppress(OSError):
            enter(str(path))
            found.append(namespace_cookie())

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    return found[-1]
