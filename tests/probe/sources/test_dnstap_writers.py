"""The two groups: one may use the sockets of the run-dir, the other may only write to the dnstap socket."""

from __future__ import annotations

import grp
import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from dnstrail.bus.ipc import lookups_address, socket_path
from dnstrail_probe.registry import open_source
from live.workers import open_bus, short_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes users of several groups")
USER, ASKERS, WRITERS, OTHERS = 65533, 7001, 7002, 7003


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add both groups to those that this process knows."""
    ids = {"dnstrail": ASKERS, "dnstrail-dnstap": WRITERS}
    entries = {name: grp.struct_group((name, "x", number, [])) for name, number in ids.items()}
    monkeypatch.setattr(grp, "getgrnam", entries.__getitem__)


def connects(group: int, path: Path) -> bool:
    """Return whether a process of a group can connect to a socket."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([group])
            os.setgid(USER)
            os.setuid(USER)
            socket.socket(socket.AF_UNIX).connect(str(path))
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.usefixtures("groups")
@pytest.mark.parametrize("argument", ["", ":{folder}/other/dnstap.sock"], ids=["the default", "a missing folder"])
def test_a_writer_may_write_and_not_ask(monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    """Each group reaches its own socket and not the other one; further users reach neither."""
    with short_folder() as folder, open_bus() as bus:
        folder.chmod(0o755)
        monkeypatch.setenv("DNSTRAIL_RUN_DIR", str(folder / "run"))
        lookups = lookups_address(folder / "run")
        bus.server(lookups)
        with closing(open_source(f"dnstap{argument.format(folder=folder)}")) as source:
            found = {
                group: (connects(group, socket_path(lookups)), connects(group, source.path))
                for group in (ASKERS, WRITERS, OTHERS)
            }
    assert found == {ASKERS: (True, False), WRITERS: (False, True), OTHERS: (False, False)}
