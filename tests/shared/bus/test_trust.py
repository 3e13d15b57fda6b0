"""Whom a client believes: real folders of several users, and clients that run as one of them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgpack
import pytest

from dnstrail.bus.ipc import lookups_address, socket_path
from dnstrail.bus.trust import distrust, folder_state
from dnstrail.client import LookupClient
from dnstrail.errors import Unavailable
from live.workers import BOUND, answering, open_bus, short_folder

ROOT, SERVICE, CLIENT, OTHER = 0, 1, 1234, 4321  # SERVICE: `daemon`, which every system has
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives folders away, and becomes other users")
AS_USER = """
import os, sys
from pathlib import Path
from dnstrail.bus import trust
from dnstrail.client import LookupClient
from dnstrail.errors import Unavailable
user, folder, host = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
trust.SERVICE_USER = "daemon"
trust.RUN_DIR_OF_HOST = trust.RUN_DIR_OF_FLEET = Path(host)
os.setgroups([])
os.setgid(user)
os.setuid(user)
"""
EXAMINE = f"{AS_USER}print(trust.distrust(folder))"
ASK = f"""{AS_USER}
try:
    print(LookupClient(f"ipc://{{folder}}/lookups.sock", timeout={BOUND}).request("version")["data"])
except Unavailable as error:
    print(error.reason, error.remedy)
"""


@pytest.fixture
def place():
    """Yield a folder of root that every user can pass."""
    with short_folder() as folder:
        folder.chmod(0o755)
        yield folder


def run_as(user, script, folder, *, host="/nowhere", caller=""):
    """Return what a script prints that runs as a user; `caller` is who called sudo."""
    command = [sys.executable, "-c", script, str(user), str(folder), str(host)]
    environment = {**os.environ, "SUDO_UID": str(caller), "SUDO_GID": str(caller)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Case(NamedTuple):
    """A folder `r` in a folder `above`, a client, and the fault that the client finds."""

    fault: str
    client: int = CLIENT
    owner: int = ROOT
    mode: int = 0o755
    above: int = ROOT
    above_mode: int = 0o755
    group: int = 0
    caller: int | str = ""
    host: str = "/nowhere"


CASES = {
    "root's": Case(""),
    "the client's own": Case("", owner=CLIENT, above=CLIENT),
    "the client's own in a sticky folder": Case("", owner=CLIENT, above_mode=0o1777),
    "the service user's": Case("", owner=SERVICE, above_mode=0o1777),
    "a stranger's": Case("{r} belongs to user 4321", owner=OTHER),
    "a stranger's in a sticky folder": Case("{r} belongs to user 4321", owner=OTHER, above_mode=0o1777),
    "below a stranger's": Case("{above} belongs to user 4321", owner=CLIENT, above=OTHER),
    "all may write": Case("others may write to {r}", owner=CLIENT, mode=0o777),
    "all may write, sticky": Case("others may write to {r}", owner=CLIENT, mode=0o1777),
    "a group may write": Case("others may write to {r}", mode=0o770 | 0o5, group=77),
    "the client's group may write": Case("", owner=CLIENT, mode=0o775, group=CLIENT),
    "all may rename it": Case("others may write to {above}", owner=CLIENT, above_mode=0o777),
    "given away, asked by root": Case("", client=ROOT, owner=OTHER),
    "of a stranger, asked by root": Case("{r} belongs to user 4321", client=ROOT, owner=OTHER, above_mode=0o1777),
    "below a stranger's, asked by root": Case("{above} belongs to user 4321", client=ROOT, above=OTHER),
    "root's, asked by root": Case("", client=ROOT, above_mode=0o1777),
    "the caller's of sudo": Case("", client=ROOT, owner=OTHER, above=OTHER, caller=OTHER),
    "SUDO_UID without root": Case("{r} belongs to user 4321", owner=OTHER, caller=OTHER),
    "SUDO_UID is no number": Case("{above} belongs to user 4321", client=ROOT, above=OTHER, caller="4321 "),
    "/run/dnstrail of any user": Case("", owner=OTHER, host="{r}"),
    "/run/dnstrail where all may make it": Case("{r} belongs to", owner=OTHER, above=OTHER, host="{r}"),
    "/run/dnstrail in a sticky folder": Case("{r} belongs to", owner=OTHER, above_mode=0o1777, host="{r}"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_who_is_believed(place, case):
    """A folder is believed if root, the service user or the client alone can put a socket there."""
    above, folder = place / "above", place / "above" / "r"
    folder.mkdir(parents=True)
    names = {"above": above, "r": folder}
    for made, owner, mode in ((folder, case.owner, case.mode), (above, case.above, case.above_mode)):
        os.chown(made, owner, case.group)
        made.chmod(mode)
    fault = run_as(case.client, EXAMINE, folder, host=case.host.format(**names), caller=case.caller)
    assert fault.startswith(case.fault.format(**names))
    assert bool(fault) == bool(case.fault)


def test_an_impostor_gets_no_request(place):
    """A socket in a folder that a stranger made in the client's name is not asked: the error names the stranger."""
    folder, asked = place / f"dnstrail-{CLIENT}", []
    address = lookups_address(folder)
    with answering(address, lambda body: asked.append(body) or msgpack.packb({"v": 1, "ok": True, "data": "forged"})):
        os.chown(folder, OTHER, OTHER)
        folder.chmod(0o755)
        socket_path(address).chmod(0o666)
        printed = run_as(CLIENT, ASK, folder)
        assert not asked
        os.chown(folder, CLIENT, OTHER)
        assert run_as(CLIENT, ASK, folder) == "forged"
    assert printed == f"untrusted {folder} belongs to user {OTHER}: choose another folder with --run-dir"


def test_a_link_of_a_stranger_is_not_followed(place):
    """A link that another user can point elsewhere is not believed, although its present target is."""
    target, home = place / "target", place / "home"
    target.mkdir()
    home.mkdir()
    (home / "link").symlink_to(target)
    assert run_as(CLIENT, EXAMINE, home / "link") == ""
    os.chown(home / "link", OTHER, OTHER, follow_symlinks=False)
    assert run_as(CLIENT, EXAMINE, home / "link") == f"{home}/link belongs to user {OTHER}"
    os.chown(home / "link", ROOT, ROOT, follow_symlinks=False)
    os.chown(home, OTHER, OTHER)
    assert run_as(CLIENT, EXAMINE, home / "link") == f"{home} belongs to user {OTHER}"


def test_a_connection_ends_with_its_folder(place):
    """If another folder takes the place of the first, the client asks whoever serves there, and not the first."""
    address, replies = lookups_address(place / "r"), {}
    for data in ("first", "second"):
        replies[data] = msgpack.packb({"v": 1, "ok": True, "data": data})
    with open_bus() as bus, answering(address, lambda _: replies["first"]):
        client = LookupClient(address, bus=bus, timeout=BOUND)
        assert client.request("version")["data"] == "first"
        (place / "r").rename(place / "moved")
        with answering(address, lambda _: replies["second"]):
            assert client.request("version")["data"] == "second"


def test_a_folder_that_changes_hands_is_checked_again(place):
    """A folder that was believed is believed no longer once it belongs to a stranger."""
    above = place / "above"
    address = lookups_address(above / "r")
    with open_bus() as bus, answering(address, lambda _: msgpack.packb({"v": 1, "ok": True, "data": 1})):
        client = LookupClient(address, bus=bus, timeout=BOUND)
        assert client.request("version")["data"] == 1
        above.chmod(0o1777)
        os.chown(above / "r", OTHER, OTHER)
        with pytest.raises(Unavailable) as caught:
            client.request("version")
    assert caught.value.reason == "untrusted"


def test_a_missing_folder_is_no_ground_for_trust(place):
    """A folder that does not exist, and one out of reach, are not believed."""
    assert distrust(place / "none") == f"{place / 'none'}: No such file or directory"
    assert folder_state(place / "none") is None
    (place / "closed" / "r").mkdir(parents=True)
    (place / "closed").chmod(stat.S_IRWXU)
    assert run_as(CLIENT, EXAMINE, place / "closed" / "r") == f"{place / 'closed' / 'r'}: Permission denied"


def test_the_folder_of_the_host():
    """The folders that are believed whoever owns them are those of root's workers, and of the store of a fleet."""
    shown = run_as(ROOT, "from dnstrail.bus.trust import *; print(RUN_DIR_OF_HOST, RUN_DIR_OF_FLEET)", "/")
    assert shown == "/run/dnstrail /run/dnstrail-fleet"
    assert Path("/run").stat().st_uid == ROOT
