"""A real Valkey with TLS and users, as deploy/setup-fleet.sh unpacks it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import valkey

from dnstrail_fleet.log.engine_address import EngineAddress, parse_engine
from dnstrail_fleet.log.valkey_log import PREFIX
from live.certificate import make_certificate
from live.namespaces import skip
from live.ports import free_port
from live.processes import PATIENCE, wait_until

ROOT = Path(__file__).parents[3] / ".valkey/root"
_STORE = "+xreadgroup +xack +xpending +xautoclaim +xgroup +xinfo +xlen +xtrim +memory|usage +scan +multi +exec +ping"


class Engine:
    """A Valkey server of a test in a folder. It keeps its streams over a restart."""

    def __init__(self, folder: Path, users: Sequence[str], address: str = "127.0.0.1") -> None:
        self.folder = folder
        self._address = address
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port(address)
        self.settings: dict[str, object] = {}  # further ones
        self.ca = folder / "ca.pem"
        self.acl = folder / "users.acl"
        self.files = (self.acl, folder / "certificate.pem", folder / "key.pem")
        folder.mkdir(mode=0o700, exist_ok=True)
        make_certificate(folder, "engine.test", address)
        shutil.copy(folder / "certificate.pem", self.ca)
        rules = [f"user {one} on >secret-{one} %W~{PREFIX}{one} +xadd +ping" for one in users]
        rules += [f"user store on >secret-store %RW~{PREFIX}* {_STORE}", "user admin on >secret-admin ~* +@all"]
        self.acl.write_text("\n".join(["user default off ~* &* +@all", *rules, ""]))
        for name in (*users, "store", "admin"):
            self.password_file(name, f"secret-{name}")

    def password_file(self, name: str, password: str) -> Path:
        """Write a file with a password."""
        path = self.folder / f"{name}.password"
        path.write_text(f"{password}\n")
        path.chmod(0o600)
        return path

    def option(self, user: str, *, ca: Path | None = None, password: Path | None = None) -> str:
        """Return the value of `--engine` of a user."""
        ca, password = ca or self.ca, password or self.folder / f"{user}.password"
        return f"valkeys://{user}@{self._address}:{self.port},ca={ca},password={password}"

    def address(self, user: str, **files: Path) -> EngineAddress:
        """Return the address of a user."""
        return parse_engine(self.option(user, **files))

    def client(self, user: str = "admin", password: str = "") -> Any:
        """Return a client of the engine."""
        ca = str(self.folder / "certificate.pem")  # also if a test changed it
        return valkey.Valkey(
            self._address,
            self.port,
            username=user,
            password=password or f"secret-{user}",
            ssl=True,
            ssl_ca_certs=ca,
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = {"port": 0, "tls-port": self.port, "bind": self._address, "dir": self.folder, "appendonly": "yes"}
        words |= {"tls-cert-file": self.folder / "certificate.pem", "tls-key-file": self.folder / "key.pem"}
        words |= {"tls-auth-clients": "no", "aclfile": self.folder / "users.acl", "save": ""}
        words |= {"proto-max-bulk-len": "1mb", **self.settings}
        options = [word for name, value in words.items() for word in (f"--{name}", str(value))]
        self._process = run_program("valkey-server", *options, folder=self.folder)
        wait_until(self._answers, "the engine")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not ended since."""
        return self._process is not None

    def kill(self) -> None:
        """Kill it (-9)."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)
        self._process = None

    def _answers(self) -> bool:
        with suppress(valkey.exceptions.ValkeyError, OSError):
            return bool(self.client().ping())
        return False


def run_program(name: str, *options: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start a program of Valkey that writes its log into a folder."""
    if not (ROOT / "usr/bin" / name).exists():
        skip(f"no {name} here: deploy/setup-fleet.sh unpacks it")
    library = next(ROOT.glob("usr/lib/*-linux-gnu"), ROOT)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library)}
    with (folder / "log").open("ab") as log:
        return subprocess.Popen([ROOT / "usr/bin" / name, *options], env=environment, stdout=log, stderr=log)


@contextmanager
def engine(folder: Path, *users: str, address: str = "127.0.0.1") -> Iterator[Engine]:
    """Start an engine whose users may each append to a stream of its own."""
    found = Engine(folder, users, address)
    found.start()
    try:
        yield found
    finally:
        found.stop()
