"""The stack of the compose file on a Docker daemon of its own, with a client and a DNS server in containers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dnstrail_fleet.log.engine_address import EngineAddress, encode_invitation
from dnstrail_fleet.log.valkey_log import PREFIX
from live.certificate import make_certificate
from live.docker_daemon import Daemon, dockerd, network_namespace
from live.processes import wait_until
from live.stack_images import DATA, FILES, build_images

PATIENCE = 60.0  # seconds
WATCHED = "watched.example"  # the list of the config names it; the DNS server answers for each name below it
ADDRESS = "192.0.2.1"
WORKERS = 3
ENGINE, HOST, SENDER = "10.97.0.53", "web1", 993  # of the fleet: address, name of this host, user
_VALKEY = """
port 0
tls-port 6380
tls-cert-file /engine/certificate.pem
tls-key-file /engine/key.pem
tls-auth-clients no
aclfile /engine/users.acl
"""
_SIGNATURE = """
from typing import ClassVar

from dnstrail import Event, EventSelector, Signature, SignatureMetadata


class Answered(Signature):
    metadata = SignatureMetadata(id="ANSWERED-1", version="1", name="Answered", event_name="ANSWERED")
    selected_events = (EventSelector(source="tracee", name="net_packet_dns", origin="*"),)

    def on_event(self, event: Event) -> None:
        if event.at_asker and event.answers:
            self.report(event, name=event.question.name)
"""


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    daemon: Daemon
    config: Path

    def compose(self, *arguments: str) -> str:
        """Run a command of compose; return its output."""
        env = {"DNSTRAIL_CONFIG": str(self.config), "DNSTRAIL_DOCKER_SOCKET": self.daemon.host.removeprefix("unix://")}
        env |= {"DNSTRAIL_ENGINE": str(self.engine), "DNSTRAIL_FLEET": str(self.invitation)}
        return self.daemon.docker("compose", *FILES, *arguments, timeout=3 * PATIENCE, **env)

    @property
    def engine(self) -> Path:
        """The folder of the engine of the fleet, of the profile `fleet`."""
        return self.config.parent / "engine"

    @property
    def invitation(self) -> Path:
        """The file that invites this host."""
        return self.config.parent / "fleet.json"

    def containers(self, *services: str) -> dict[str, int]:
        """Return the main process of each running container by name."""
        ids = self.compose("ps", "--quiet", *services).split()
        shown = self.daemon.docker("inspect", "--format", "{{.Name}} {{.State.Pid}} {{.State.Running}}", *ids)
        lines = [line.lstrip("/").split() for line in shown.splitlines()]
        return {name: int(process) for name, process, running in lines if running == "true"}

    def ask_cache(self, *command: str) -> str:
        """Run a command of dnstrail in the container of the cache."""
        return self.compose("exec", "-T", "cache", "dnstrail", *command)

    def health(self) -> str:
        """Return the health of the cache, as Docker reports it."""
        cache = self.compose("ps", "--all", "--quiet", "cache")
        return self.daemon.docker("inspect", "--format", "{{.State.Health.Status}}", cache)

    def works(self) -> bool:
        """Return true if the cache is healthy, and all signature workers are members of its group."""
        try:
            stats = json.loads(self.ask_cache("stats", "--json"))
        except AssertionError:  # it starts
            return False
        members = [member for group in stats["groups"].values() for member in group["members"]]
        return len(members) == WORKERS and self.health() == "healthy"

    def resolve(self, name: str) -> None:
        """Resolve a name by the C library of the client's container."""
        self.compose("exec", "-T", "client", "getent", "ahostsv4", name)

    def findings(self) -> list[dict[str, Any]]:
        """Return the findings that the containers printed."""
        logs = [self.daemon.docker("logs", container) for container in self.compose("ps", "--all", "--quiet").split()]
        return [line for log in logs for line in _objects(log.splitlines()) if "eventName" in line]

    def about(self, name: str) -> list[dict[str, Any]]:
        """Return all findings about a name."""
        return [line for line in self.findings() if name in json.dumps(line["args"])]

    def kill(self, container: str) -> None:
        """Kill the main process of a container, and wait until Docker has started another one."""
        process = self.containers()[container]
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: self.containers().get(container, process) != process, f"{container} is back", PATIENCE)


def _objects(lines: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the objects of a log. Docker writes a long line in parts of 16 KiB: the last one may not be whole yet."""
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                if number < len(lines):
                    raise


@contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """Build the images, run the stack, and take it down with its volumes."""
    build_images(folder)
    with network_namespace() as namespace, dockerd(DATA, namespace) as daemon:
        run = Stack(daemon, _config(folder))
        run.compose("down", "--volumes")  # what a run that was killed left
        try:
            run.compose("up", "--detach", "--scale", f"signatures={WORKERS}")
            yield run
        finally:
            run.compose("--profile", "fleet", "down", "--volumes", "--timeout", "5")


def _config(folder: Path) -> Path:
    _invite(folder)
    config = folder / "config"
    (config / "signatures").mkdir(parents=True)
    (config / "signatures/answered.py").write_text(_SIGNATURE)
    (config / "watch_list").write_text(f"{WATCHED}\n")
    (config / "signatures.env").write_text("DNSTRAIL_WATCH_LIST=/etc/dnstrail/watch_list\n")
    return config


def _invite(folder: Path) -> None:
    """Write what the engine of the fleet needs, and the invitation of this host, which the user of its sender reads."""
    engine = folder / "engine"
    engine.mkdir()
    make_certificate(engine, "engine.test", ENGINE)
    (engine / "valkey.conf").write_text(_VALKEY)
    (engine / "password").write_text("secret\n")
    (engine / "users.acl").write_text(
        f"user default off\nuser {HOST} on >secret %W~{PREFIX}{HOST} +xadd +ping\nuser store on >secret ~* +@all\n"
    )
    authority = (engine / "certificate.pem").read_text()
    (folder / "fleet.json").write_bytes(encode_invitation(EngineAddress(ENGINE, 6380, HOST, authority, "secret")))
    (folder / "fleet.json").chmod(0o400)
    os.chown(folder / "fleet.json", SENDER, 0)
