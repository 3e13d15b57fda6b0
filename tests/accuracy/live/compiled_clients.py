"""Builds the clients that are compiled: one program in Go, one in Java."""

from __future__ import annotations

from pathlib import Path

from clients import JAVAC, KEYTOOL, PROGRAMS, Client
from hosts import UNPACKED, Host

_LONGEST = 300.0  # seconds


def build(clients: list[Client], host: Host, folder: Path) -> None:
    """Build into the folder what these clients need."""
    needs = {client.needs for client in clients}
    if "go" in needs:
        environment = ("env", f"GOCACHE={UNPACKED / 'go'}", "GO111MODULE=off", "CGO_ENABLED=1", "GOTOOLCHAIN=local")
        _run(host, *environment, "go", "build", "-o", folder / "fetch", PROGRAMS / "fetch.go")
    if JAVAC in needs:
        _run(host, JAVAC, "-d", folder, PROGRAMS / "Fetch.java")
        store = ("-keystore", folder / "ca.p12", "-storepass", "changeit", "-noprompt")
        _run(host, KEYTOOL, "-importcert", "-file", folder / "ca.pem", "-alias", "authority", *store)


def _run(host: Host, *words: str | Path) -> None:
    done = host.run(*words, timeout=_LONGEST)
    assert done.returncode == 0, done.stdout + done.stderr
