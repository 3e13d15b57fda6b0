"""Three hosts, an engine with TLS and users, and a store: all as processes of their own, over the command line.

Tests of dnstrail_cli.fleet.command, dnstrail_cli.fleet.lookups, dnstrail_fleet.lookups.server.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
import valkey

from dnstrail_fleet.log.valkey_log import PREFIX
from live.certificate import make_certificate
from live.fleet_processes import CURL, WGET, Fleet, fleet
from live.processes import dnstrail, wait_until
from live.valkey_server import Engine

HOSTS = ("web1", "web2", "lab")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Return a fleet of three hosts, two of which know a name, and one of which has a private answer for it."""
    with fleet(tmp_path_factory.mktemp("fleet"), *HOSTS) as found:
        for host, address, process in zip(
            HOSTS, ("203.0.113.7", "203.0.113.7", "10.0.0.7"), (CURL, WGET, CURL), strict=True
        ):
            history = found.history(host)
            found.keep(history, "shop.example", address, process)
            if host == "web1":
                found.connect(history, "shop.example", address, process)
            found.keep(history, f"{host}.example", "203.0.113.9", WGET)
        found.send("web1")
        found.send("web2", "--exclude", "name=web2.example")
        found.send("lab", "--exclude", "user=1000")
        found.store()
        wait_until(lambda: is_known(found), "all that the hosts send")
        yield found


def is_known(found: Fleet) -> bool:
    """Return whether the store has all rows of the three hosts, and the connection of one."""
    hosts = found.data("get", key="shop.example").get("hosts", ())
    connected = [one["host"] for one in hosts if one["last_connection"] >= one["first"]]
    return len(hosts) == 3 and connected == ["web1"] and bool(found.data("get", key="web1.example"))


def test_a_name_is_found_with_its_hosts_askers_and_times(known: Fleet) -> None:
    """The address has the two hosts that know it, with who asked, and since when; the third one's answer is its own."""
    data = known.data("get", key="203.0.113.7")
    assert sorted((one["host"], one["askers"][0]["program"]) for one in data["hosts"]) == [
        ("web1", "/usr/bin/curl"),
        ("web2", "/usr/bin/wget"),
    ]
    assert data["dns_queries"] == ["shop.example"]
    assert [one["host"] for one in data["hosts"] if one["last_connection"] >= one["first"]] == ["web1"]
    assert all(abs(one["first"] - time.time()) < 600 for one in data["hosts"])
    name = known.data("get", key="shop.example")
    assert (name["split_horizon"], name["ip_addresses"]) == (True, ["203.0.113.7"])
    assert [one["host"] for one in known.data("get", key="10.0.0.7")["hosts"]] == ["lab"]
    of_lab = json.loads(known.ask("get", "shop.example", "--host", "lab", "--at", str(time.time()), "--json").stdout)
    assert (of_lab["ip_addresses"], of_lab["complete"]) == (["10.0.0.7"], True)


def test_what_is_excluded_never_leaves_its_host(known: Fleet) -> None:
    """Neither the store nor the engine has the name and the user that two hosts exclude."""
    assert [one["host"] for one in known.data("get", key="203.0.113.9")["hosts"]] == ["web1"]
    with closing(known.engine.client()) as admin:
        for host in ("web2", "lab"):
            stream = repr(admin.xrange(f"{PREFIX}{host}"))
            assert "shop.example" in stream
            assert f"{host}.example" not in stream


def test_people_see_each_host(known: Fleet) -> None:
    """Each command prints text for people, and exits with 1 if nothing is known."""
    text = known.ask("get", "shop.example").stdout
    assert ("split horizon" in text, text.count("last connection")) == (True, 1)
    assert "shop.example A 203.0.113.7" in known.ask("trail", "203.0.113.7", "--host", "web1").stdout
    assert [line.split()[0] for line in known.ask("hosts").stdout.splitlines()] == sorted(HOSTS)
    assert "web1.example  on web1" in known.ask("new").stdout
    assert "203.0.113.7  2 hosts" in known.ask("top", "addresses").stdout
    assert "shop.example" in known.ask("top", "names").stdout
    assert "web1" in known.ask("top", "hosts").stdout
    assert "ask the host" in known.ask("get", "shop.example", "--at", str(time.time())).stderr  # on the first day
    done = known.ask("get", "other.example")
    assert (done.returncode, done.stderr) == (1, "not found\n")
    assert dnstrail("fleet", "get", "a.example", "--run-dir", known.run.parent / "none").returncode == 3


def test_a_host_cannot_read_and_cannot_speak_for_another(known: Fleet) -> None:
    """The user of a host is refused XRANGE, also on its own stream, and an append to another one."""
    with closing(known.engine.client("web1")) as client:
        for command in (("XRANGE", f"{PREFIX}web1", "-", "+"), ("XADD", f"{PREFIX}web2", "*", "e", "x")):
            with pytest.raises(valkey.exceptions.NoPermissionError):
                client.execute_command(*command)


def test_tcp_without_tls_is_refused_with_the_remedy(known: Fleet) -> None:
    """An address without TLS is refused before anything is sent, and the text names what to write."""
    done = dnstrail("fleet", "send", "--engine", "valkey://web1@127.0.0.1:6379")
    assert done.returncode == 2
    assert "tls-port" in done.stderr
    assert "valkeys://USER@HOST" in done.stderr


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Return a fleet of one host whose sender and store work."""
    with fleet(tmp_path_factory.mktemp("steady"), "web1") as found:
        found.histories["web1"] = found.history("web1")
        assert next_line(found.send("web1"))["event"] == "ready"
        found.store()
        yield found


@pytest.mark.parametrize("fault", ["away", "certificate", "password", "full", "read-only"])
def test_a_fault_has_one_line_and_ends_by_itself(steady: Fleet, fault: str) -> None:
    """Each fault of the engine has one line, and what came meanwhile is sent once the fault is gone.

    The end of a fault may restart the engine: if the sender tries meanwhile, that is a fault of its own.
    """
    with broken(steady.engine, fault):
        name = f"{fault}.example"
        steady.keep(steady.histories["web1"], name, "203.0.113.7")
        line = next_line(steady.senders["web1"])
        assert (line["event"], line["reason"]) == ("engine_unavailable", fault)
    wait_until(lambda: steady.data("get", key=name), name)
    last = next_line(steady.senders["web1"])
    if last["event"] == "engine_unavailable" and fault in ("certificate", "password"):
        assert last["reason"] == "away"
        last = next_line(steady.senders["web1"])
    assert last["event"] == "fleet_recovered"


@contextmanager
def broken(running: Engine, fault: str) -> Iterator[None]:
    """Break an engine for a block."""
    if fault in ("full", "read-only"):
        with closing(running.client()) as admin:
            setting, value = ("maxmemory", "1mb") if fault == "full" else ("min-replicas-to-write", "1")
            admin.config_set(setting, value)
            yield
            admin.config_set(setting, "0")
        return
    running.stop()
    kept = {path: path.read_bytes() for path in running.files}
    if fault == "certificate":
        make_certificate(running.folder, "engine.test", "127.0.0.1")
    elif fault == "password":
        running.acl.write_text(running.acl.read_text().replace("secret-web1", "other"))
    if fault != "away":
        running.start()
    yield
    running.stop()
    for path, content in kept.items():
        path.write_bytes(content)
    running.start()


def next_line(process: subprocess.Popen[str]) -> dict[str, str]:
    """Return the next line of a log."""
    assert process.stderr is not None
    line: dict[str, str] = json.loads(process.stderr.readline())
    return line
