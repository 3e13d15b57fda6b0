"""The address of an engine on the command line: `valkeys://USER@HOST:PORT,ca=FILE,password=FILE`, or an invitation.

That of Kafka begins with `kafkas`. `valkeys+sentinel://USER@HOST:PORT,HOST:PORT/NAME` names sentinels instead, and the
name under which they watch the primary.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from dnstrail.errors import SettingsError
from dnstrail.regular_file import read_trusted

FORM: Final = "valkeys://USER@HOST[:PORT],ca=FILE,password=FILE"
_FORM_OF_SENTINELS: Final = "valkeys+sentinel://USER@HOST[:PORT],HOST[:PORT]/NAME,ca=FILE,password=FILE"
VALKEY: Final = "valkeys"
KAFKA: Final = "kafkas"
SENTINEL: Final = "valkeys+sentinel"
PRIMARY: Final = "mymaster"  # the name of a primary at its sentinels, unless another one is given
PORTS: Final = {VALKEY: 6380, KAFKA: 9093, SENTINEL: 26379}
_SCHEMES: Final = {"valkeys": VALKEY, "rediss": VALKEY, "kafkas": KAFKA, SENTINEL: SENTINEL}
_PLAIN: Final = ("valkey", "redis", "tcp", "kafka")
_USER: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}", re.ASCII)
_MOST_PASSWORD: Final = 1024  # bytes


class EngineAddress(NamedTuple):
    """Where an engine is, and who asks. The name of the user is the name of the host, or of the store."""

    host: str
    port: int
    user: str
    authority: str  #: the certificate of the CA that signed that of the engine, in PEM form
    password: str
    scheme: str = VALKEY
    others: tuple[tuple[str, int], ...] = ()  #: further sentinels: hosts and ports
    primary: str = ""  #: the name under which sentinels watch the primary; "" without sentinels

    @property
    def servers(self) -> list[EngineAddress]:
        """The servers that it names: one, or the sentinels."""
        found = [(self.host, self.port), *self.others]
        return [self._replace(host=host, port=port, scheme=VALKEY, others=(), primary="") for host, port in found]

    def __str__(self) -> str:
        places = ((self.host, self.port), *self.others)
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in places)
        return f"{self.scheme}://{self.user}@{hosts}" + (f"/{self.primary}" if self.primary else "")

    def __repr__(self) -> str:
        return str(self)  # without the password


class _Invitation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: Literal[1]
    engine: str
    ca: str
    password: str


def parse_engine(text: str) -> EngineAddress:
    """Return the address of an engine. A text without `://` names the file of an invitation.

    Raises:
        SettingsError: It is no such address, has no TLS, or a file of it cannot be used; the text names the remedy.
    """
    if "://" not in text:
        return _read_invitation(Path(text))
    parts = text.split(",")
    address = ",".join(part for part in parts if "=" not in part)
    url = _parse_url(address, f"--engine {address!r:.200}")
    options = dict(part.partition("=")[::2] for part in parts if "=" in part)
    if options.keys() != {"ca", "password"} or not all(options.values()):
        raise SettingsError(f"--engine {address!r:.200}: ca and password are needed, and no more: write {FORM}")
    authority = read_trusted(Path(options["ca"]), "certificate").decode("ascii", "replace")
    return url._replace(authority=authority, password=read_password(Path(options["password"])))


def check_user(name: str) -> str:
    """Return the name of a user of the engine, which is that of a host.

    Raises:
        SettingsError: It can be no such name.
    """
    if not _USER.fullmatch(name):
        raise SettingsError(f"{name!r:.200}: a name has up to 128 letters, digits, dots and hyphens")
    return name


def encode_invitation(address: EngineAddress) -> bytes:
    """Return the content of a file that invites a host: it is secret."""
    invitation = _Invitation(1, str(address), address.authority, address.password)
    return msgspec.json.format(msgspec.json.encode(invitation)) + b"\n"


def _read_invitation(path: Path) -> EngineAddress:
    """Return the address in the file of an invitation.

    Raises:
        SettingsError: It cannot be read, others may write to it, or it is no invitation.
    """
    try:
        found = msgspec.json.decode(read_trusted(path, "invitation"), type=_Invitation)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise SettingsError(f"invitation {path}: {error}: `dnstrail fleet invite` makes one") from error
    return _parse_url(found.engine, f"invitation {path}")._replace(authority=found.ca, password=found.password)


def _parse_url(address: str, place: str) -> EngineAddress:
    """Return an address without its secrets; `place` names it in errors.

    Raises:
        SettingsError: It is no such address, or has no TLS; the text names the remedy.
    """
    word, _, rest = address.partition("://")
    scheme = _SCHEMES.get(word, "")
    if word in _PLAIN:
        raise SettingsError(
            f"{place}: without TLS everybody on the way reads which names a host asks for: give the "
            f"engine a certificate (`tls-port` in the settings of Valkey), and write {FORM}"
        )
    form = _FORM_OF_SENTINELS if scheme == SENTINEL else FORM
    authority, _, primary = rest.partition("/")
    user, _, servers = authority.rpartition("@")
    if ":" in user:
        raise SettingsError(
            "--engine: each process of this host can read a password here: name its file, password=FILE"
        )
    try:
        (host, port), *others = [_parse_server(one, PORTS.get(scheme, 0)) for one in servers.split(",")]
    except ValueError as error:
        raise SettingsError(f"{place}: {error}: write {form}") from error
    if scheme == SENTINEL:
        primary = check_user(primary or PRIMARY)
    if not scheme or (scheme != SENTINEL and (primary or others)):
        raise SettingsError(f"{place}: write {form}")
    if not _USER.fullmatch(user):
        raise SettingsError(f"{place}: name the user of the engine: letters, digits, dots, hyphens")
    return EngineAddress(host, port, user, "", "", scheme, tuple(others), primary)


def _parse_server(text: str, port: int) -> tuple[str, int]:
    """Return the host and the port of a server.

    Raises:
        ValueError: It is no such text.
    """
    url = urlsplit(f"//{text}")
    if not url.hostname or url.netloc != text:
        raise ValueError(f"{text!r:.200} is no host")
    return url.hostname, url.port or port


def read_password(path: Path) -> str:
    """Return the password of a file.

    Raises:
        SettingsError: The file cannot be read, others may write to it, or it has no password of one line.
    """
    text = read_trusted(path, "password file").decode("utf-8", "replace").rstrip("\r\n")
    if not text or "\n" in text or len(text) > _MOST_PASSWORD:
        raise SettingsError(f"password file {path}: it must contain one line with the password")
    return text
