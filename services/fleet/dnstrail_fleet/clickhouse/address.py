"""The address of a ClickHouse server: `clickhouses://USER@HOST:PORT/DATABASE,ca=FILE,password=FILE`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from dnstrail.errors import SettingsError
from dnstrail.regular_file import read_trusted
from dnstrail_fleet.log.engine_address import read_password

FORM: Final = "clickhouses://USER@HOST[:PORT]/DATABASE,ca=FILE,password=FILE"
_PORT: Final = 8443
_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,127}", re.ASCII)


class ClickHouseAddress(NamedTuple):
    """Where a server is, and who asks. Each tenant has a database of its own."""

    host: str
    port: int
    user: str
    database: str
    authority: str  #: the certificate of the CA that signed that of the server, in PEM form
    password: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"clickhouses://{self.user}@{host}:{self.port}/{self.database}"

    def __repr__(self) -> str:
        return str(self)  # without the password


def parse_clickhouse(text: str) -> ClickHouseAddress:
    """Return the address of a server.

    Raises:
        SettingsError: It is no such address, has no TLS, or a file of it cannot be used; the text names the remedy.
    """
    address, *parts = text.split(",")
    options = dict(part.partition("=")[::2] for part in parts)
    place = f"--clickhouse {address!r:.200}"
    try:
        url = urlsplit(address)
        host, port, database = url.hostname, url.port or _PORT, url.path.removeprefix("/")
    except ValueError as error:
        raise SettingsError(f"{place}: {error}: write {FORM}") from error
    if url.password is not None:
        raise SettingsError("--clickhouse: each process of this host can read a password here: name its file")
    if url.scheme != "clickhouses" or not host or url.query or url.fragment:
        raise SettingsError(f"{place}: write {FORM}. The server needs TLS: its https_port")
    for name in (url.username or "", database):
        if not _NAME.fullmatch(name):
            raise SettingsError(f"{place}: user and database have letters, digits and underscores: write {FORM}")
    if options.keys() != {"ca", "password"} or not all(options.values()):
        raise SettingsError(f"{place}: ca and password are needed, and no more: write {FORM}")
    authority = read_trusted(Path(options["ca"]), "certificate").decode("ascii", "replace")
    password = read_password(Path(options["password"]))
    return ClickHouseAddress(host, port, url.username or "", database, authority, password)
