from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dnstrail.bus import ipc
from dnstrail.bus.ipc import default_run_dir, events_address, findings_address, lookups_address, socket_path
from dnstrail.errors import BusError
from live.workers import answering, open_bus, short_folder

SERVE = """
import sys, time
from dnstrail.bus import ZmqBus
bus = ZmqBus()
server = bus.server(sys.argv[1])
print("bound", flush=True)
time.sleep(600)
"""
BINDERS = {
    "publisher": lambda bus, address: bus.publisher(address, lossless=False),
    "server": lambda bus, address: bus.server(address),
    "puller": lambda bus, address: bus.puller(address),
}
CONNECTORS = {
    "subscriber": lambda bus, address: bus.subscriber([address], [""]),
    "requester": lambda bus, address: bus.requester(address),
    "pusher": lambda bus, address: bus.pusher(address),
}


@pytest.fixture
def folder():
    with short_folder() as folder:
        yield folder


@pytest.fixture
def address(folder):
    return f"ipc://{folder}/x.sock"


@pytest.fixture
def umask():
    """Set the umask that most systems have."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def refusal(open_end, address):
    """Return the error that opening an end raises."""
    with open_bus() as bus:
        with pytest.raises(BusError) as caught:
            open_end(bus, address)
        return caught.value


@pytest.mark.parametrize("kind", BINDERS)
def test_the_socket_is_for_user_and_group_alone(folder, umask, kind):
    """The folder is made with mode 0750, its socket with 0660, and the umask is restored."""
    with open_bus() as bus:
        BINDERS[kind](bus, f"ipc://{folder}/made/here/x.sock")
        made = folder / "made" / "here"
        assert stat.S_IMODE(made.stat().st_mode) == 0o750
        assert stat.S_IMODE((made / "x.sock").stat().st_mode) == 0o660
        assert (made / "x.sock").is_socket()
    assert os.umask(0o022) == 0o022


def test_an_address_serves_again_after_close(address):
    """A closed address can be bound again, by the same bus and by another one."""
    for _ in range(3):
        with open_bus() as bus:
            bus.server(address).close()
            bus.server(address)


def test_a_stale_socket_of_a_killed_process_is_no_obstacle(address):
    """The address of a killed process, whose socket file remains, can be bound again and serves."""
    path = socket_path(address)
    with subprocess.Popen([sys.executable, "-c", SERVE, address], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"bound\n"
        assert "another dnstrail serves here" in str(refusal(BINDERS["server"], address))
        process.send_signal(signal.SIGKILL)
    assert path.is_socket()
    with answering(address, bytes.upper), open_bus() as bus:
        assert bus.requester(address).request(b"x", 10) == b"X"


@pytest.mark.parametrize("kind", BINDERS)
def test_only_one_serves_an_address(address, kind):
    """A second server of an address is refused with its name and the remedy; the first one continues."""
    with answering(address, bytes.upper), open_bus() as bus:
        error = refusal(BINDERS[kind], address)
        assert error.address == address
        assert str(error) == f"{address}: another dnstrail serves here: stop it, or use another --run-dir"
        assert bus.requester(address).request(b"x", 10) == b"X"


@pytest.mark.parametrize("kind", [*BINDERS, *CONNECTORS])
@pytest.mark.parametrize(
    ("refused", "text"),
    [
        ("tcp://127.0.0.1:5555", "tcp without keys is refused"),
        ("tcp://example.com:5555", "no bus address: write tcp://ADDRESS:PORT with an IP address"),
        ("tcp://::1:5555", "no bus address: write tcp://ADDRESS:PORT with an IP address, an IPv6 address in brackets"),
        ("tcp://127.0.0.1", "no bus address: write tcp://ADDRESS:PORT"),
        ("tcp://127.0.0.1:65536", "no bus address: write tcp://ADDRESS:PORT"),
        ("/run/dnstrail/events.sock", "no bus address: write ipc:///path"),
        ("inproc://x", "no bus address: write ipc:///path"),
        ("", "no bus address: write ipc:///path"),
        ("ipc://", "no bus address: write ipc:///path"),
        ("ipc://" + "x" * 108, "longer than the 107 bytes of a unix socket's path: use a shorter run-dir"),
        ("ipc://" + "é" * 54, "longer than the 107 bytes"),
    ],
    ids=[
        "tcp",
        "a name",
        "no brackets",
        "no port",
        "no such port",
        "a path",
        "inproc",
        "nothing",
        "no path",
        "108 bytes",
        "108 bytes of UTF-8",
    ],
)
def test_an_unusable_address_is_refused(kind, refused, text):
    """An unusable address raises a BusError that names it and the remedy."""
    assert str(refusal({**BINDERS, **CONNECTORS}[kind], refused)).startswith(f"{refused}: {text}")


def test_the_longest_path_serves(folder):
    """A path of exactly 107 bytes is bound and reached."""
    address = f"ipc://{folder}/".ljust(len("ipc://") + 107, "x")
    with answering(address, bytes.upper), open_bus() as bus:
        assert bus.requester(address).request(b"x", 10) == b"X"


def test_a_folder_that_cannot_be_made_is_refused(folder):
    """A path through a file raises a BusError that names the socket and the remedy."""
    (folder / "file").touch()
    address = f"ipc://{folder}/file/x.sock"
    with (
        pytest.raises(BusError, match=f"{address}: .*: choose another folder with --run-dir"),
        ipc.sole_server(address),
    ):
        pytest.fail("a socket below a file")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder away")
@pytest.mark.parametrize(
    ("mode", "refused"), [(0o777, True), (0o1777, True), (0o755, False)], ids=["0777", "1777", "0755"]
)
def test_a_folder_of_somebody_else_is_refused_where_all_may_write(folder, mode, refused):
    """A folder that belongs to another user and is writable by all is refused."""
    other = folder / "other"
    other.mkdir()
    os.chown(other, 65534, 65534)
    other.chmod(mode)
    address = f"ipc://{other}/x.sock"
    if not refused:
        with open_bus() as bus:
            assert bus.server(address).receive() is None
        return
    assert "belongs to another user: choose another folder" in str(refusal(BINDERS["server"], address))


def test_a_lock_that_is_a_link_is_not_followed(address):
    """A lock file that is a symbolic link is not opened."""
    path = socket_path(address)
    target = path.with_name("target")
    Path(f"{path}.lock").symlink_to(target)
    assert "choose another folder" in str(refusal(BINDERS["server"], address))
    assert not target.exists()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"DNSTRAIL_RUN_DIR": "/a/b", "XDG_RUNTIME_DIR": "/x"}, "/a/b"),
        ({"XDG_RUNTIME_DIR": "/x"}, "/x/dnstrail"),
        ({}, "/tmp/dnstrail-1234"),
    ],
    ids=["configured", "the user's", "temporary"],
)
def test_the_run_dir_of_a_user(monkeypatch, environment, expected):
    """A user's sockets lie in the configured folder, else in the runtime folder, else in a temporary one."""
    for name in ("DNSTRAIL_RUN_DIR", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    monkeypatch.setattr(ipc.tempfile, "gettempdir", lambda: "/tmp")
    assert default_run_dir() == Path(expected)


def test_the_run_dir_of_root(monkeypatch):
    """Root's sockets lie in /run/dnstrail."""
    monkeypatch.delenv("DNSTRAIL_RUN_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_run_dir() == Path("/run/dnstrail")


def test_a_run_dir_has_three_sockets():
    """Events, lookups and findings each have an address in the folder."""
    addresses = {make(Path("/r")) for make in (events_address, lookups_address, findings_address)}
    assert addresses == {"ipc:///r/events.sock", "ipc:///r/lookups.sock", "ipc:///r/findings.sock"}
