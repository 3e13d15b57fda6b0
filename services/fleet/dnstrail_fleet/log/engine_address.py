"""The address of an engine on the command line: `valkeys://USER@HOST:PORT,ca=FILE,password=FILE`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from dnstrail.errors import SettingsError
from dnstrail.regular_file import read_trusted

FORM: Final = "valkeys://USER@HOST[:PORT],ca=FILE,password=FILE"
PORT: Final = 6380
_SCHEMES: Final = ("valkeys", "rediss")
_PLAIN: Final = ("valkey", "redis", "tcp")
_USER: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}", re.ASCII)
_MOST_PASSWORD: Final = 1024  # bytes


class EngineAddress(NamedTuple):
    """Where an engine is, and who asks. The name of the user is the name of the host, or of the store."""

    host: str
    port: int
    user: str
    ca: Path
    password: Path

    def __str__(self) -> str:
        return f"valkeys://{self.user}@{self.host}:{self.port}"

    def read_password(self) -> str:
        """Return the password.

        Raises:
            SettingsError: The file cannot be read, others may write to it, or it has no password of one line.
        """
        text = read_trusted(self.password, "password file").decode("utf-8", "replace").rstrip("\r\n")
        if not text or "\n" in text or len(text) > _MOST_PASSWORD:
            raise SettingsError(f"password file {self.password}: it must contain one line with the password")
        return text


def parse_engine(text: str) -> EngineAddress:
    """Return the address of an engine.

    Raises:
        SettingsError: It is no such address, or has no TLS; the text names the remedy.
    """
    address, *parts = text.split(",")
    try:
        url = urlsplit(address)
        host, port, user = url.hostname, url.port or PORT, url.username or ""
    except ValueError as error:
        raise SettingsError(f"--engine {text!r:.200}: {error}: write {FORM}") from error
    if url.scheme in _PLAIN:
        raise SettingsError(
            f"--engine {address!r:.200}: without TLS everybody on the way reads which names a host asks for: give the "
            f"engine a certificate (`tls-port` in its settings), and write {FORM}"
        )
    if url.scheme not in _SCHEMES or not host or url.path.strip("/"):
        raise SettingsError(f"--engine {address!r:.200}: write {FORM}")
    if url.password is not None:
        raise SettingsError(
            "--engine: each process of this host can read a password here: name its file, password=FILE"
        )
    if not _USER.fullmatch(user):
        raise SettingsError(f"--engine {address!r:.200}: name the user of the engine: letters, digits, dots, hyphens")
    options = dict(part.partition("=")[::2] for part in parts)
    if options.keys() != {"ca", "password"} or not all(options.values()):
        raise SettingsError(f"--engine {address!r:.200}: ca and password are needed, and no more: write {FORM}")
    return EngineAddress(host, port, user, Path(options["ca"]), Path(options["password"]))
