"""Three workers of signatures, one killed and one joining: each new name is reported once.

Tests of dnstrail_cli.fleet.signatures, dnstrail_fleet.signatures.worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from dnstrail_fleet.log.contract import READERS
from dnstrail_fleet.log.valkey_log import PREFIX
from live.fleet_processes import Fleet, fleet
from live.processes import dnstrail
from live.signature_workers import HOSTS, Workers, each_name_is_reported_once


class StreamsUnderTest:
    """The streams of an engine. A dead reader is one of the last half second."""

    patch = """
from dnstrail_fleet.log.stored_entries import StoredEntries as Log
Log.__init__.__kwdefaults__["dead"] = 500
"""

    def __init__(self, known: Fleet, admin: Any) -> None:
        self.option = known.engine.option("store")
        self._admin = admin

    def put(self, host: str, body: bytes) -> None:
        """Append an entry of a host."""
        self._admin.xadd(f"{PREFIX}{host}", {"e": body})

    def is_done(self, hosts: Sequence[str]) -> bool:
        """Return whether all entries of hosts are acknowledged by the signatures."""
        groups = [one for host in hosts for one in self._admin.xinfo_groups(f"{PREFIX}{host}")]
        found = [(one["lag"], one["pending"]) for one in groups if one["name"] == READERS.encode()]
        return found == [(0, 0)] * len(hosts)


def test_each_new_name_is_reported_once(tmp_path: Path) -> None:
    """Workers are killed, join, and end: each name is reported once, and the store has it by then."""
    with fleet(tmp_path, *HOSTS) as known, ExitStack() as stack:
        known.store()
        log = StreamsUnderTest(known, stack.enter_context(closing(known.engine.client())))
        each_name_is_reported_once(Workers(tmp_path, known.run, log, stack))


def test_what_cannot_run_is_refused(tmp_path: Path) -> None:
    """An unknown signature, and an address without TLS, are refused before anything is read."""
    done = dnstrail("fleet", "signatures", "--engine", "valkey://store@127.0.0.1:6379")
    assert (done.returncode, "tls-port" in done.stderr) == (2, True)
