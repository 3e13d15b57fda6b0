"""`dnstrail run --enforce` and processes outside of the cgroup of the command, which could connect for it."""

from __future__ import annotations

import json
import pwd
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dnstrail_run.command_process import has_domains
from dnstrail_run.session import _NO_DOMAIN
from live import attempts, outside
from live.namespaces import SENDER, Hosts, hosts, live_or_skip
from live.pipelines import pipeline
from live.processes import wait_until
from live.run_commands import RUN, WEB_SERVER, asking_folder, on_client
from live.server_process import serving

Asked = tuple[dict[str, str], dict[str, Any], set[str]]
CALLER = pwd.getpwnam("nobody")
AS_CALLER = {"SUDO_UID": str(CALLER.pw_uid), "SUDO_GID": str(CALLER.pw_gid), "SUDO_USER": CALLER.pw_name}
MODULE = ("/usr/bin/python3", "-m", "live.outside")  # the caller may not run the one of the tests
MODULES = (outside.__file__, attempts.__file__)
OF_USER = f"/run/user/{CALLER.pw_uid}"
BUS, SERVICES = f"{OF_USER}/bus", ("/run/docker.sock", f"{OF_USER}/systemd/private")
# As the caller: a real bus, which starts a program when a message for its name comes, and a process that helps.
AROUND = f"""
mount -t tmpfs none /run && chmod 777 /run
as="setpriv --reuid {CALLER.pw_uid} --regid {CALLER.pw_gid} --clear-groups"
$as mkdir -p {OF_USER}/systemd
$as dbus-daemon --config-file bus.conf --nofork & bus=$!
$as {shlex.join(MODULE)} serve "$PWD" {SENDER} {shlex.join(SERVICES)} > outside & server=$!
until [ -s outside ] && [ -S {BUS} ]; do kill -0 $bus && kill -0 $server && sleep 0.01 || exit; done
"$@"
code=$?
kill $bus $server
exit $code
"""
BUS_CONF = f"""<busconfig><type>session</type><listen>unix:path={BUS}</listen><servicedir>{{folder}}</servicedir>
<policy context="default"><allow eavesdrop="true"/><allow send_destination="*"/><allow own="*"/></policy></busconfig>"""
SERVICE = "[D-BUS Service]\nName=test.Leaves\nExec={folder}/leaves\n"
LEAVES = f"#!/bin/bash\necho bus > /dev/tcp/{SENDER}/80\nexit 1\n"  # without a failure the bus waits for its name
ASKS_BUS = f"dbus-send --bus=unix:path={BUS} --dest=test.Leaves --print-reply / test.Leaves.Now >&2"


@pytest.fixture(scope="module")
def network() -> Iterator[Hosts]:
    """Two hosts; every name below google.com has the address of the server."""
    live_or_skip("bash", "dbus-daemon", "dbus-send", "/usr/bin/python3")
    with hosts() as both:
        yield both


@pytest.fixture(scope="module")
def watched(network: Hosts) -> Iterator[Path]:
    """Yield the folder of a pipeline that watches all runs."""
    with pipeline("--output", "json") as running:
        yield running.folder


@contextmanager
def folder_of_caller(network: Hosts) -> Iterator[Path]:
    """Make a folder of the caller, with the files of its bus."""
    with asking_folder() as made, serving(network, made / "seen", *WEB_SERVER):
        (made / "allowed").write_text("one.google.com:80\n")
        (made / "bus.conf").write_text(BUS_CONF.format(folder=made))
        (made / "leaves.service").write_text(SERVICE.format(folder=made))
        (made / "leaves").write_text(LEAVES)
        (made / "leaves").chmod(0o755)
        (made / "live").mkdir()
        for module in MODULES:
            shutil.copy(module, made / "live")
        shutil.chown(made, CALLER.pw_uid, CALLER.pw_gid)
        yield made


@pytest.fixture
def folder(network: Hosts) -> Iterator[Path]:
    """Yield a folder of the caller."""
    with folder_of_caller(network) as made:
        yield made


@pytest.fixture(scope="module")
def outcome(network: Hosts, watched: Path) -> Asked:
    """Return what came of it all, with a list that contains no socket."""
    with folder_of_caller(network) as made:
        return asked(network, made, watched, "--enforce")


def asked(network: Hosts, folder: Path, watched: Path, *refuses: str) -> Asked:
    """Ask for connections in all ways; return the results, the report, and what reached the host."""
    asks = f"read process descriptor < outside; {shlex.join(MODULE)} ask {folder} {SENDER} $process $descriptor "
    script = f"{asks} {shlex.join(SERVICES)}; {ASKS_BUS} || true"
    options = ("--allow", "allowed", *refuses, "--report", "r.json", "--quiet")
    done = on_client(
        network, folder, "bash", "-c", AROUND, "sh", *RUN, *options, "--", "bash", "-c", script,
        run_dir=watched, **AS_CALLER,
    )  # fmt: skip
    assert done.stdout, done.stderr
    # The server writes later than the clients end, one connection after the other: it has written all before the last.
    assert network.on_client(sys.executable, str(folder / "asks.py"), SENDER).returncode == 0
    wait_until(lambda: re.search(rf" \d+ {SENDER}$", (folder / "seen").read_text(), re.MULTILINE), "the last line")
    seen = set(re.findall(r"^[0-9.]+ (\D.*)$", (folder / "seen").read_text(), re.MULTILINE))
    return json.loads(done.stdout), json.loads((folder / "r.json").read_text()), seen


OPEN = {"passed tcp", "passed udp", "passed connected", "plain"}  # the limits: see docs/use/enforce.md


def test_services_are_hidden(outcome):
    """A bus, a launcher, abstract sockets and sockets of other processes are out of reach, by whatever path."""
    found, report, seen = outcome
    closed = {name: result for name, result in found.items() if name not in OPEN}
    if not has_domains():  # before Linux 6.12
        opened = {name for name in closed if name in ("abstract", "taken") or name.startswith("root ")}
        assert {closed.pop(name) for name in opened} == {"ok"}
        seen -= opened
    assert "ok" not in closed.values()
    assert {closed[path] for path in SERVICES} == {"ECONNREFUSED"}
    assert {closed.get("abstract", "EPERM"), closed.get("taken", "EPERM")} == {"EPERM"}
    assert report["hidden"] == [SERVICES[0], BUS, SERVICES[1]]
    assert report["rights"] == [_NO_DOMAIN][has_domains() :]
    assert not seen - OPEN
    assert report["exit_code"] == 0


def test_what_stays_open(outcome):
    """A process outside connects for the command, or passes it a socket: the report shows its own connections."""
    found, report, seen = outcome
    assert {name: found[name] for name in OPEN} == dict.fromkeys(OPEN, "ok")
    assert {"plain", "passed tcp", "passed connected"} <= seen
    assert report["refused"] == []
    assert [(one["address"], one["port"], one["results"]) for one in report["connections"]] == [
        (SENDER, 80, {"connected": 1})
    ], "of the socket that was passed unconnected"
    assert report["not_allowed"] == [f"reached {SENDER}:80/tcp"]


def test_an_allowed_service_is_found(network, folder, watched):
    """A socket in the list stays: the command leaves by it."""
    with (folder / "allowed").open("a") as file:
        file.write(f"{BUS}\n{SERVICES[0]}\n")
    found, report, _ = asked(network, folder, watched, "--enforce", "--any-question")
    assert report["hidden"] == [SERVICES[1]]
    assert (found[SERVICES[0]], found[SERVICES[1]]) == ("ok", "ECONNREFUSED")
    wait_until(lambda: re.search("^.* bus$", (folder / "seen").read_text(), re.MULTILINE), "the program of the bus")


def test_without_enforce(network, folder, watched):
    """A run that refuses nothing hides nothing; its report has what the command opened itself, on sockets of others."""
    found, report, seen = asked(network, folder, watched)
    assert found == dict.fromkeys(found, "ok")
    assert {*SERVICES, "abstract", "plain", "taken", "bus"} <= seen
    assert report["hidden"] == []
    assert [(one["address"], one["results"]) for one in report["connections"]] == [(SENDER, {"connected": 2})]


@pytest.mark.parametrize("target", ["3", "0"])
def test_an_inherited_socket(network, folder, watched, target):
    """A run that would hand on a connected socket starts nothing, and names its descriptor."""
    shutil.chown(folder, 0)  # root takes no list that another user could replace
    run = shlex.join([*RUN, "--allow", "allowed", "--enforce", "--", "touch", "started"])
    done = on_client(network, folder, "bash", "-c", f"exec {target}<>/dev/tcp/{SENDER}/80; {run}", run_dir=watched)
    assert (done.returncode, (folder / "started").exists()) == (2, False)
    assert f"descriptor {target} is an open socket" in done.stderr
