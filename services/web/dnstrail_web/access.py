"""Who may look: a token that works once, the cookie that it is exchanged for, and the names of this server."""

from __future__ import annotations

import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2b
from ipaddress import ip_network
from pathlib import Path
from typing import Final, NamedTuple

from dnstrail.process.private_folder import SAFELY
from dnstrail.regular_file import read_regular

LINK: Final = "web.link"  # the name of the file with the link, in the run-dir
#: browsers and programs that are let in at the same time -> the one that was let in first has to use a new link
MOST_SESSIONS: Final = 64
#: seconds for which a cookie works -> the browser has to use a new link
LONGEST: Final = 86_400.0
_LONGEST_LINK: Final = 4096  # bytes of the file
_BYTES: Final = 32  # of a token, and of the value of a cookie


class Peer(NamedTuple):
    """The other end of a connection: its address, and the user of its socket if that is on this host."""

    address: str
    user: int | None = None

    @property
    def origin(self) -> int | str:
        """The user, else the address; of IPv6 its network, which one host may have all addresses of."""
        if self.user is not None or ":" not in self.address:
            return self.address if self.user is None else self.user
        return str(ip_network((self.address.partition("%")[0], 64), strict=False))


class Session(NamedTuple):
    """A peer that was let in, until a time of a clock that never steps (s)."""

    user: int | None
    until: float


class Access:
    """Lets peers in. A token works once, and the file then has the next one.

    A cookie works for the user who exchanged the token, as far as users are known: a browser sends the cookies of
    a host to each of its ports, and another user may serve one of them.
    """

    def __init__(self, folder: Path, origin: str, port: int, monotonic: Callable[[], float], *, secure: bool) -> None:
        self.name = f"dnstrail-{port}"
        self._path = folder / LINK
        self._origin = origin
        self._monotonic = monotonic
        self._secure = secure
        self._token = ""
        self._link = ""
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._known: OrderedDict[int | str, float] = OrderedDict()  # origins that sent a cookie, until it expires

    def new_link(self) -> str:
        """Make a token, and write its link to the file, which only this user can read; return the link.

        Raises:
            OSError: the file cannot be written.
        """
        token = secrets.token_urlsafe(_BYTES)
        link = f"{self._origin}/?token={token}"
        new = self._path.with_name(f"{LINK}.lock")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600)
        try:
            os.write(descriptor, f"{link}\n".encode())
        finally:
            os.close(descriptor)
        new.rename(self._path)
        self._token, self._link = token, link
        return link

    def close(self) -> None:
        """Remove the file, unless it has the link of another server."""
        with suppress(OSError, UnicodeDecodeError):
            if self._link and read_regular(self._path, _LONGEST_LINK, links=False).decode().strip() == self._link:
                self._path.unlink(missing_ok=True)

    def exchange(self, token: str, peer: Peer) -> str | None:
        """Return the header that sets a cookie, in place of the token; None if the token is wrong.

        Raises:
            OSError: the file of the link cannot be written.
        """
        if not self._token or not secrets.compare_digest(token.encode(errors="replace"), self._token.encode()):
            return None
        self.new_link()
        value = secrets.token_urlsafe(_BYTES)
        session = self._sessions[_digest(value)] = Session(peer.user, self._monotonic() + LONGEST)
        self._know(peer, session)
        if len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        secure = "; Secure" if self._secure else ""
        return f"{self.name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={int(LONGEST)}{secure}"

    def admits(self, cookies: str, peer: Peer) -> bool:
        """Return whether a peer with these cookies was let in."""
        pairs = (pair.strip().partition("=") for pair in cookies.split(";"))  # others may set cookies of this name
        found = [self._sessions.get(_digest(value)) for name, _, value in pairs if name == self.name]
        now = self._monotonic()
        for one in found:
            if one is not None and one.user == peer.user and now < one.until:
                self._know(peer, one)
                return True
        return False

    @property
    def known(self) -> frozenset[int | str]:
        """The origins of the peers that were let in."""
        now = self._monotonic()
        return frozenset(origin for origin, until in self._known.items() if now < until)

    def _know(self, peer: Peer, session: Session) -> None:
        self._known[peer.origin] = session.until
        self._known.move_to_end(peer.origin)
        if len(self._known) > MOST_SESSIONS:
            self._known.popitem(last=False)


def own_hosts(addresses: Iterable[str], port: int) -> frozenset[str]:
    """Return the values of the Host header that mean this server: those of names, with and without the port."""
    names = [f"[{one}]" if ":" in one else one.lower() for one in addresses]
    return frozenset([*names, *(f"{name}:{port}" for name in names)])


def _digest(value: str) -> bytes:
    return blake2b(value.encode(errors="replace"), digest_size=_BYTES).digest()
