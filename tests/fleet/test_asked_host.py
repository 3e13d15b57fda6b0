"""`dnstrail fleet get` and `trail` with `--host` ask the cache of this host; if it is away, the store answers.

Tests of dnstrail_cli.fleet.asked_host.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgpack
import pytest
from click.testing import CliRunner

from builders.fleet import entry, row
from dnstrail.bus.keys import SERVERS, allow, new_pair
from dnstrail_cli.__main__ import main_command
from live.answering_host import PLACE, AnsweringHost, answering_host, write_settings
from live.fleet_store import answering_store
from live.ports import free_port
from live.processes import dnstrail, run_dir, wait_until
from live.workers import answering, asker, exchange, wait_until_seen

KEY = "shop.example"
OF_HOST, OF_STORE = "203.0.113.7", "203.0.113.9"


class Known(NamedTuple):
    """A host and a store that answer differently, and a folder for settings."""

    host: AnsweringHost
    store: Path
    folder: Path

    def ask(self, *words: str, keys: Path | None = None, **hosts: str) -> subprocess.CompletedProcess[str]:
        """Ask with the addresses of hosts in the settings."""
        settings = write_settings(self.folder / "dnstrail.toml", **hosts)
        keys = keys or self.host.keys_of_asker
        return dnstrail("--config", settings, "fleet", *words, "--run-dir", self.store, DNSTRAIL_KEYS=str(keys))

    def ask_host(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Ask the host, again while it does not answer in time."""
        done: list[subprocess.CompletedProcess[str]] = []

        def is_reached() -> bool:
            done.append(self.ask(*words, "--host", "web1", web1=self.host.address))
            return "no answer from web1" not in done[-1].stderr

        wait_until(is_reached, "an answer in time")
        return done[-1]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    """Return a host, and a store with another row of it."""
    folder = tmp_path_factory.mktemp("asked")
    with (
        run_dir() as store,
        answering_host(folder, folder / "history") as host,
        answering_store(folder / "store", store) as rows,
    ):
        now = int(time.time())
        heard = now + 3600  # the host is not behind, however long these tests take
        rows.write(entry("web1", row(KEY, OF_STORE, at=now), row("old.example", at=now), sent=heard))
        with asker(f"ipc://{host.run}/lookups.sock") as client:
            wait_until_seen(client, host.probe.turn(*exchange(KEY, f"{KEY} 300 A {OF_HOST}", at=time.time())))
        yield Known(host, store, folder)


@pytest.mark.parametrize(("op", "key"), [("get", KEY), ("trail", OF_HOST)])
def test_a_host_answers_as_its_own_command_does(known: Known, op: str, key: str) -> None:
    """The answer of the host is that of its cache, and states its name; the store is not asked."""
    own = (op, key, "--cache", f"ipc://{known.host.run}/lookups.sock", "--at", str(time.time()))
    done = known.ask_host(op, key, *own[-2:])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"host       web1\n{dnstrail(*own).stdout}"
    assert {KEY, OF_HOST} <= {*done.stdout.split()}
    stated = json.loads(known.ask_host(op, key, *own[-2:], "--json").stdout)
    expected = json.loads(dnstrail(*own, "--json").stdout)
    assert stated == {**expected, "found": True, "answered_by": "host", "host": "web1"}


def test_what_a_host_does_not_know_is_not_found(known: Known) -> None:
    """The host has the last word, although the store has a row of it."""
    done = known.ask_host("get", "old.example", "--json")
    assert done.returncode == 1
    assert done.stderr == "not found\n"
    stated = {"key": "old.example", "found": False, "history": True, "answered_by": "host", "host": "web1"}
    assert json.loads(done.stdout) == stated


def away() -> str:
    """Return an address that nobody serves."""
    return f"tcp://{PLACE}:{free_port(PLACE)}"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("no address", "the settings name no address for it in [fleet.hosts]"),
        ("away", "nobody serves this address"),
        ("not allowed", "the key of this host is not allowed"),
        ("another key", "or the key of this host is not allowed"),
        ("no keys", "contains none"),
    ],
)
def test_a_host_that_cannot_be_asked_leaves_the_store(known: Known, tmp_path: Path, fault: str, reason: str) -> None:
    """One line states why the host was not reached; the rows are those of the store, and say so."""
    address, keys = known.host.address, tmp_path / "keys"
    if fault == "not allowed":  # the asker knows the key of the host, and is not allowed there
        new_pair(keys)
        [of_host] = (known.host.keys_of_asker / SERVERS).iterdir()
        (keys / SERVERS / of_host.name).write_bytes(of_host.read_bytes())
    elif fault == "another key":  # who answers there is not the host
        allow(keys, SERVERS, PLACE, new_pair(keys))
    elif fault != "no keys":
        keys = known.host.keys_of_asker
    hosts = {} if fault == "no address" else {"web1": away() if fault == "away" else address}
    done = known.ask("get", KEY, "--host", "web1", "--json", keys=keys, **hosts)
    assert done.returncode == 0
    [line] = done.stderr.splitlines()
    assert line.startswith("dnstrail: no answer from web1, so this is from the store: ")
    assert reason in line
    stated = json.loads(done.stdout)
    assert (stated["answered_by"], stated["ip_addresses"]) == ("store", [OF_STORE])


def test_the_store_says_that_it_answered(known: Known) -> None:
    """Without `--host` no settings are read, and a key that the store lacks is not found there."""
    done = known.ask("get", "other.example", "--json", web1="no address")
    assert (done.returncode, done.stderr) == (1, "not found\n")
    assert json.loads(done.stdout) == {"key": "other.example", "found": False, "answered_by": "store"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[fleet.hosts]\nweb1 = "192.0.2.1:7003"', "[fleet.hosts] web1: no bus address"),
        ('[fleet.hosts]\nweb1 = "tcp://web1.example:7003"', "[fleet.hosts] web1: no bus address"),
        ('[fleet.hosts]\nweb1.example = "tcp://192.0.2.1:7003"', "quote a name with dots"),
        ('[fleet]\nhost = "tcp://192.0.2.1:7003"', "did you mean hosts?"),
        ("[fleet]\nhosts = 1", "must be a table"),
    ],
)
def test_wrong_addresses_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    """The error names the key and the remedy, before anybody is asked."""
    path = tmp_path / "dnstrail.toml"
    path.write_text(text)
    path.chmod(0o600)
    done = dnstrail("--config", path, "fleet", "get", KEY, "--host", "web1")
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr


def test_a_name_of_a_host_is_printed_without_its_control_bytes(known: Known) -> None:
    """The line about a host that is not in the settings escapes its name."""
    done = known.ask("get", KEY, "--host", "web1\x1b[2J")
    assert "\x1b" not in done.stderr
    assert "no answer from web1\\x1b[2J, so" in done.stderr


FOUND = {"dns_root": KEY, "dns_queries": [KEY], "ip_addresses": ["192.0.2.1"]}
NOT_FOUND = {"v": 1, "ok": False, "error": "data_not_found"}
REPLIES = [
    b"no MessagePack",
    msgpack.packb([1]),
    msgpack.packb({"v": 1, "ok": False, "error": "overloaded"}),
    *(msgpack.packb({"v": 1, "ok": True, "data": data}) for data in (None, 7, "x", [], [7, 8], [{}], {"trails": [7]})),
    msgpack.packb({"v": 1, "ok": True, "data": [{**FOUND, "dns_queries": 7}]}),
    msgpack.packb({"v": 1, "ok": True, "data": {"trails": [{"dns_root": 7}], "server_names": 7, "truncated": 7}}),
    msgpack.packb({**NOT_FOUND, "asked": {"time": 1e300, "type": "X", "outcome": 7}}),
]


@pytest.mark.parametrize("op", ["get", "trail"])
def test_an_unusable_reply_of_a_host_leaves_the_store(known: Known, op: str) -> None:
    """A host that was taken over may send anything: one line states that, and the store answers."""
    for reply in REPLIES:
        with run_dir() as run, answering(f"ipc://{run}/l.sock", lambda _, reply=reply: reply):
            settings = write_settings(known.folder / "dnstrail.toml", web1=f"ipc://{run}/l.sock")
            words = ("--config", str(settings), "fleet", op, KEY, "--host", "web1", "--run-dir", str(known.store))
            done = CliRunner().invoke(main_command, words)
        [line] = done.stderr.splitlines()
        assert line.startswith("dnstrail: no answer from web1, so this is from the store: "), reply
        assert (done.exit_code, OF_STORE in done.stdout) == (0, True), reply


def test_the_answer_of_a_host_is_printed_without_its_control_bytes(known: Known) -> None:
    """The text that a host sends is escaped."""
    reply = msgpack.packb({"v": 1, "ok": True, "data": [{**FOUND, "dns_queries": ["\x1b[2J"], "hosts": ["\x9b"]}]})
    with run_dir() as run, answering(f"ipc://{run}/l.sock", lambda _: reply):
        done = known.ask("get", KEY, "--host", "web1", web1=f"ipc://{run}/l.sock")
    assert "\\x1b[2J" in done.stdout
    assert not {"\x1b", "\x9b"} & {*done.stdout}
