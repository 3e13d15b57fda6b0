"""Two hosts, a probe and a cache: they know each other's keys, or they exchange nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dnstrail.bus.remote_host import key_digest
from live.namespaces import CLIENT, SERVER, hosts, live_or_skip
from live.processes import PATIENCE, dnstrail, run_dir, text_of, wait_until

EVENTS, LOOKUPS = f"tcp://{SERVER}:7001", f"tcp://{CLIENT}:7002"
FOUND, UNAVAILABLE = 0, 3


@pytest.fixture
def two():
    """Make two hosts."""
    live_or_skip()
    with hosts() as both:
        yield both


def made(folder: Path, name: str) -> tuple[Path, str]:
    """Make the keys of a worker, and return their folder and the public key."""
    keys = folder / name
    return keys, dnstrail("keys", "new", DNSTRAIL_KEYS=str(keys)).stdout.strip()


def test_a_probe_and_a_client_of_other_hosts_need_keys(two):
    """Without an allowed key a cache hears no probe, and a client gets no answer; with it, both do."""
    with run_dir() as folder:
        folder.chmod(0o755)  # the workers change their user, and read the allowed keys later
        (probe, probe_key), (cache, cache_key), (asker, asker_key) = (made(folder, name) for name in ("p", "c", "a"))
        known = [(cache, "--server", SERVER, probe_key), (asker, "--server", CLIENT, cache_key)]
        for keys, *arguments in known:
            assert dnstrail("keys", "allow", *arguments, DNSTRAIL_KEYS=str(keys)).returncode == 0

        def on(host: str, keys: Path, *arguments: str) -> list[str]:
            within = ["ip", "netns", "exec", host, "env", f"DNSTRAIL_KEYS={keys}", f"DNSTRAIL_RUN_DIR={keys}-run"]
            return [*within, sys.executable, "-m", "dnstrail_cli", *arguments]

        def get() -> int:
            command = on(two.server, asker, "get", "--cache", LOOKUPS, "updates.example")
            return subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE).returncode

        def is_refused() -> bool:
            assert get() == UNAVAILABLE
            return "client_refused" in text_of(of_cache)

        of_probe, of_cache = folder / "probe.log", folder / "cache.log"
        with (
            running(of_probe, *on(two.server, probe, "probe", "--capture", "demo", "--publish", EVENTS)),
            running(of_cache, *on(two.client, cache, "cache", "--subscribe", EVENTS, "--serve", LOOKUPS)),
        ):
            wait_until(lambda: "client_refused" in text_of(of_probe), "the refusal of the cache")
            wait_until(is_refused, "the refusal of the client: the cache may listen later than it subscribes")
            assert dnstrail("keys", "allow", "cache", cache_key, DNSTRAIL_KEYS=str(probe)).returncode == 0
            assert dnstrail("keys", "allow", "asker", asker_key, DNSTRAIL_KEYS=str(cache)).returncode == 0
            wait_until(lambda: get() == FOUND, "the answer")
            assert f'"start": "{key_digest(probe_key)}.' in text_of(of_probe), "the start is one of the key"


@contextmanager
def running(log: Path, *command: str) -> Iterator[None]:
    """Run a worker that writes its log to a file."""
    with log.open("w") as stderr, subprocess.Popen(command, stderr=stderr) as process:
        try:
            yield
        finally:
            process.kill()
