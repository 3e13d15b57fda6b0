"""A real primary of Valkey with a replica and three sentinels, all with TLS and users."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import valkey

from dnstrail_fleet.log.engine_address import PRIMARY, EngineAddress, parse_engine
from live.ports import free_port
from live.processes import PATIENCE, wait_until
from live.valkey_server import Engine, run_program

_EXAMPLES = Path(__file__).parents[3] / "deploy/valkey"
_SENTINELS = 3
DOWN_AFTER = 5_000  # ms without a reply: a busy host must not look dead


class Sentinel:
    """A sentinel of a test in a folder."""

    def __init__(self, folder: Path, primary: Engine, users: Sequence[str], down_after: int) -> None:
        self.port = free_port("127.0.0.1")
        self.acl = folder / "sentinel.acl"
        self._folder = folder
        self._primary = primary
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(mode=0o700)
        rules = [f"user {one} on >secret-{one} +sentinel|masters +ping\n" for one in users]
        self.acl.write_text(example("sentinel.acl") + "".join(rules))
        self._settings = folder / "sentinel.conf"
        settings = example("sentinel.conf").replace("engine1.example 6380", f"127.0.0.1 {primary.port}")
        settings = settings.replace(f"{PRIMARY} 2000", f"{PRIMARY} {down_after}").replace("26379", str(self.port))
        self._settings.write_text(f"{settings}bind 127.0.0.1\ndir {folder}\n")
        for path in (*primary.files[1:], primary.ca):
            shutil.copy(path, folder / path.name)

    def start(self) -> None:
        """Start it."""
        self._process = run_program("valkey-sentinel", str(self._settings), folder=self._folder)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
            self._process = None

    def client(self) -> Any:
        """Return a client of an administrator."""
        ca = str(self._primary.ca)
        return valkey.Valkey(
            "127.0.0.1", self.port, username="admin", password="secret-admin", ssl=True, ssl_ca_certs=ca
        )

    def state(self) -> dict[str, Any]:
        """Return what it knows of the primary; {} if it does not answer."""
        with closing(self.client()) as client, suppress(valkey.exceptions.ValkeyError, OSError):
            found: dict[str, Any] = client.sentinel_masters()[PRIMARY]
            found["replicas"] = client.sentinel_slaves(PRIMARY)
            return found
        return {}


class Watched:
    """A primary and its replica, which sentinels watch."""

    def __init__(self, folder: Path, users: Sequence[str], down_after: int = DOWN_AFTER) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        first = Engine(folder / "first", users)
        with first.acl.open("a") as rules:
            rules.write(example("replication.acl"))
        second = Engine(folder / "second", users)
        for path in (*first.files, first.ca):
            shutil.copy(path, second.folder / path.name)
        self.servers = (first, second)
        lines = example("replication.conf").replace("engine1.example", "127.0.0.1").splitlines()
        for one in self.servers:
            one.settings = dict(line.split(" ", 1) for line in lines if not line.startswith("#"))
            one.settings["tls-ca-cert-file"] = one.ca
        self.sentinels = [
            Sentinel(folder / f"sentinel{number}", first, users, down_after) for number in range(_SENTINELS)
        ]

    def start(self) -> None:
        """Start all, and wait until they know each other."""
        first, second = self.servers
        first.start()
        self.start_replica(second, first)
        for one in self.sentinels:
            one.start()
        self.wait(first)

    def repair(self) -> Engine:
        """Start again what was killed, wait until all know each other, and return the primary."""
        wait_until(lambda: self.primary.is_running, "a primary")
        primary = self.primary
        for one in self.servers:
            if not one.is_running:
                self.start_replica(one, primary)
        self.wait(primary)
        return primary

    def replica_of(self, primary: Engine) -> Engine:
        """Return the other server."""
        return next(one for one in self.servers if one is not primary)

    def start_replica(self, replica: Engine, primary: Engine) -> None:
        """Start a server as the replica of another one."""
        replica.settings["replicaof"] = f"127.0.0.1 {primary.port}"
        replica.start()
        del replica.settings["replicaof"]

    def wait(self, primary: Engine) -> None:
        """Wait until a server is the primary with a replica that has all, and all sentinels agree."""
        wait_until(lambda: all(self._is_whole(one.state(), primary) for one in self.sentinels), "the sentinels")

        def is_replicated() -> bool:
            with closing(primary.client()) as client:
                replicas = client.info("replication")
            return bool(replicas["connected_slaves"] == 1 and replicas["slave0"]["state"] == "online")

        wait_until(is_replicated, "the replica")

    def stop(self) -> None:
        """End all."""
        for one in (*self.sentinels, *self.servers):
            one.stop()

    @property
    def primary(self) -> Engine:
        """The primary that most sentinels name."""
        ports = [int(one.state().get("port", 0)) for one in self.sentinels]
        return max(self.servers, key=lambda one: ports.count(one.port))

    def option(self, user: str) -> str:
        """Return the value of `--engine` of a user."""
        places = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        first = self.servers[0]
        return f"valkeys+sentinel://{user}@{places},ca={first.ca},password={first.folder / user}.password"

    def address(self, user: str) -> EngineAddress:
        """Return the address of a user."""
        return parse_engine(self.option(user))

    def _is_whole(self, state: dict[str, Any], primary: Engine) -> bool:
        return bool(
            state
            and (state["port"], state["flags"], state["num-other-sentinels"])
            == (primary.port, "master", _SENTINELS - 1)
            and [one["flags"] for one in state["replicas"]] == ["slave"]
            and state["replicas"][0]["master-link-status"] == "ok"
        )


def example(name: str) -> str:
    """Return an example of deploy/valkey with the passwords of tests."""
    text = (_EXAMPLES / name).read_text()
    return re.sub(r"\b([A-Z]+)-PASSWORD\b", lambda found: f"secret-{found[1].lower()}", text)


@contextmanager
def watched(folder: Path, *users: str, down_after: int = DOWN_AFTER) -> Iterator[Watched]:
    """Start a primary, its replica, and three sentinels, whose users may each append to a stream of its own."""
    found = Watched(folder, users, down_after)
    try:
        found.start()
        yield found
    finally:
        found.stop()
