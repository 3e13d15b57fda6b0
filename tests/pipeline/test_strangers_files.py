from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dns.message
import pytest

from dnstrail.bus import Subscriber
from dnstrail.bus.ipc import events_address
from dnstrail.events import NET_PACKET_DNS
from dnstrail.protocol.batches import TURN, Batch, decode
from live.ebpf_source import cgroup, question_of
from live.hanging_file_system import hanging_file_system
from live.namespaces import Hosts
from live.processes import PATIENCE, run_dir, started, wait_until
from live.watched_libraries import other_root
from live.workers import open_bus

ASKING = """
import os, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
os.chroot(sys.argv[1])
sock.sendto(bytes.fromhex(sys.argv[2]), ("127.0.0.1", 53))
print("sent", flush=True)
sys.stdin.read()
"""
CALLING = 'import socket; socket.getaddrinfo("localhost", 80)'


class Heard:
    """The names in the questions that a running probe published."""

    def __init__(self, process: subprocess.Popen[str], subscriber: Subscriber) -> None:
        self.process = process
        self._subscriber = subscriber
        self._names: set[str] = set()

    def hears(self, name: str = "") -> bool:
        """Return true once the probe published a question; without a name, anything."""
        while (message := self._subscriber.receive()) is not None:
            topic, body = message
            self._names.add("")
            if topic == NET_PACKET_DNS:
                self._names |= {question_of(event) for event in decode(body, Batch).events}
        return name in self._names


@contextmanager
def probe(capture: str = "ebpf", **env: str) -> Iterator[Heard]:
    """Run a probe whose messages arrive."""
    with run_dir() as folder, open_bus() as bus:
        subscriber = bus.subscriber([events_address(folder)], [NET_PACKET_DNS, TURN])
        with started("probe", "--capture", capture, "--run-dir", folder, **env) as process:
            heard = Heard(process, subscriber)
            wait_until(heard.hears, "the probe")
            yield heard


@contextmanager
def asking(network: Hosts, root: Path, name: str) -> Iterator[None]:
    """Run a process of the client that has its own root, and that sent one query."""
    wire = dns.message.make_query(name, "A").to_wire().hex()
    with network.start_on_client(sys.executable, "-c", ASKING, str(root), wire) as process:
        assert process.stdout.readline() == "sent\n"
        yield
        process.communicate("", timeout=PATIENCE)


def outside(path: Path) -> None:
    """Make a link to the pipe of another process, by its absolute path."""
    os.mkfifo(path.parent / "pipe")
    path.symlink_to(path.parent / "pipe")


def huge(path: Path) -> None:
    """Make a file of a tebibyte."""
    with path.open("wb") as file:
        file.truncate(1 << 40)


def zero(path: Path) -> None:
    """Make a device that never ends: /dev/zero."""
    os.mknod(path, 0o20666, os.makedev(1, 5))


@pytest.mark.parametrize("make", [os.mkfifo, outside, huge, zero, os.mkdir])
def test_a_file_of_a_stranger_stops_no_probe(network: Hosts, tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Whatever the resolv.conf of a process is, the probe captures later queries, and SIGTERM ends it."""
    (tmp_path / "etc").mkdir()
    make(tmp_path / "etc/resolv.conf")
    with probe() as heard:
        with asking(network, tmp_path, "first.test"), asking(network, tmp_path, "second.test"):
            wait_until(lambda: heard.hears("second.test"), "the query after the attack")
        heard.process.send_signal(signal.SIGTERM)
        assert heard.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_file_system_that_hangs_stops_no_probe(network: Hosts, tmp_path: Path, how: signal.Signals) -> None:
    """While the file system of a process does not reply, the probe captures later queries, and a signal ends it."""
    (tmp_path / "etc").mkdir()
    with probe() as heard, hanging_file_system(tmp_path / "etc") as requests:
        with asking(network, tmp_path, "first.test"), asking(network, tmp_path, "second.test"):
            assert os.read(requests, 1 << 17)
            wait_until(lambda: heard.hears("second.test"), "the query after the attack")
        heard.process.send_signal(how)
        assert heard.process.wait(PATIENCE) == (0 if how == signal.SIGTERM else -signal.SIGKILL)


@pytest.mark.parametrize("make", [os.mkfifo, outside, zero, os.mkdir])
def test_a_library_of_a_stranger_stops_no_probe(network: Hosts, tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Whatever is in the place of the C library of a process, queries and calls are captured, and SIGTERM ends it."""
    with other_root(tmp_path) as (_, library):
        library.unlink()
        make(library)
        with probe("ebpf:getaddrinfo") as heard, asking(network, tmp_path, "later.test"):
            wait_until(lambda: heard.hears("later.test"), "the query after the attack")
            subprocess.run([sys.executable, "-c", CALLING], check=True, timeout=PATIENCE)
            wait_until(lambda: heard.hears("localhost"), "the call of getaddrinfo after the attack")
            heard.process.send_signal(signal.SIGTERM)
            assert heard.process.wait(PATIENCE) == 0


def test_a_library_in_a_file_system_that_hangs_stops_no_capture(network: Hosts, tmp_path: Path) -> None:
    """While the file system of a C library does not reply, the probe captures queries, and ends with it."""
    with other_root(tmp_path) as (_, library), ExitStack() as until_unmounted:
        requests = until_unmounted.enter_context(hanging_file_system(library.parent))
        with probe("ebpf:getaddrinfo") as heard, asking(network, tmp_path, "later.test"):
            assert os.read(requests, 1 << 17)
            wait_until(lambda: heard.hears("later.test"), "the query after the attack")
            heard.process.send_signal(signal.SIGTERM)
            until_unmounted.close()
            assert heard.process.wait(PATIENCE) == 0


def test_a_container_daemon_that_is_silent_stops_no_probe(network: Hosts, tmp_path: Path) -> None:
    """While Docker's socket does not reply, the probe captures later queries, and SIGTERM ends it."""
    with run_dir() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(folder / "docker.sock"))
        silent.listen()
        with probe(DOCKER_HOST=f"unix://{folder}/docker.sock") as heard:
            with cgroup(f"docker-{os.urandom(32).hex()}.scope"):
                connection, _ = silent.accept()
            with connection, asking(network, tmp_path, "later.test"):
                assert connection.recv(4096)
                wait_until(lambda: heard.hears("later.test"), "the query after the attack")
                heard.process.send_signal(signal.SIGTERM)
                assert heard.process.wait(PATIENCE) == 0
