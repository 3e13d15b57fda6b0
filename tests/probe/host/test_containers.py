from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from dnstrail_probe.host.containers import MAX_PATH, REMEMBERED, Containers
from dnstrail_probe.host.docker import NAMELESS, RETRY, ContainerName, ContainerNames, inspect
from live.processes import run_dir, wait_until
from live.workers import FakeClock

ID = "0123456789abcdef" * 4
OTHER = "f" * 64


def root(_folder: str) -> bool:
    """Return true: every folder is root's."""
    return True


def test_a_removed_cgroup_is_kept_for_a_minute():
    """The container of a removed cgroup is found for a minute, for late events."""
    containers = Containers(root)
    containers.made(5, f"/docker/{ID}")
    containers.removed(5, 1)
    containers.removed(6, 1 + REMEMBERED)
    assert containers.of(5) == ID
    containers.removed(6, 2 + REMEMBERED)
    assert containers.of(5) is None


def test_cgroup_of_the_host_is_known_and_no_container():
    """A cgroup of the host yields "", an unknown cgroup None."""
    containers = Containers(root)
    containers.made(1, "/system.slice")
    assert (containers.of(1), containers.of(2)) == ("", None)


def test_cgroups_are_bounded_and_counted():
    """Beyond the bound the oldest cgroup is evicted and counted; removals are bounded as well."""
    containers = Containers(root, most=3)
    for cgroup in range(1, 6):
        containers.made(cgroup, "/x")
        containers.removed(99, cgroup)
    assert (len(containers), containers.dropped, containers.of(1), containers.of(5)) == (3, 2, None, "")
    assert len(containers._removed) <= 3


def test_the_beginning_of_a_path_is_kept():
    """A path is kept up to a bound; the path of an unknown cgroup is ""."""
    containers = Containers(root)
    containers.made(1, f"/{'x' * 1000}")
    assert len(containers.path(1)) == MAX_PATH
    assert containers.path(2) == ""


class Daemon:
    """A socket that sends given bytes to each connection, in place of Docker: the last ones again and again."""

    def __init__(self, path: Path, *answers: bytes) -> None:
        self.path = str(path)
        self.asked: list[bytes] = []
        self._answers = [*answers]
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(self.path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                request = connection.recv(4096)
                if not request:
                    return
                self.asked.append(request.split(b"\r\n")[0])
                connection.sendall(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(self.path)
        self._thread.join()
        self._socket.close()


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


FOUND = answer(json.dumps({"Name": "/web", "Config": {"Image": "nginx:1"}}).encode())


def test_name_and_image_come_from_the_daemon():
    """A container is requested once, and has its name and image from then on."""
    with run_dir() as folder:
        daemon = Daemon(folder / "docker.sock", FOUND)
        names = ContainerNames(daemon.path)
        assert names.of(ID) == NAMELESS
        wait_until(lambda: names.of(ID) == ContainerName("web", "nginx:1"), "the name")
        names.close()
        daemon.close()
        assert daemon.asked == [f"GET /containers/{ID}/json HTTP/1.1".encode()]


@pytest.mark.parametrize("refused", ["500 Internal Server Error", "404 Not Found"])
def test_a_nameless_container_is_requested_again_later(refused):
    """After a request that failed, the next one is due in ten seconds, and one at a time is on its way."""
    with run_dir() as folder:
        daemon = Daemon(folder / "docker.sock", answer(b"{}", refused), FOUND)
        clock = FakeClock()
        names = ContainerNames(daemon.path, clock.monotonic)
        names.of(ID)
        wait_until(lambda: names.of(OTHER) != NAMELESS, "the reply after the failed one")
        clock.advance(RETRY - 0.1)
        assert names.of(ID) == NAMELESS
        assert names._requests.empty()
        clock.advance(0.2)
        assert names.of(ID) == NAMELESS
        wait_until(lambda: names.of(ID) == ContainerName("web", "nginx:1"), "the name")
        clock.advance(2 * RETRY)
        assert names.of(ID) != NAMELESS
        names.close()
        daemon.close()
        asked = [request.split()[1].split(b"/")[2].decode() for request in daemon.asked]
        assert asked == [ID, OTHER, ID]


@pytest.mark.parametrize(
    "given",
    [
        answer(b'{"message":"No such container"}', "404 Not Found"),
        answer(b"[1, 2]"),
        answer(b'{"Name": "/x", "Config": null}'),
        answer(b"no json"),
        answer(b"[" * 100_000),
        b"no http\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\ncut",
        b"",
    ],
)
def test_any_reply_leaves_a_container_nameless_at_worst(given):
    """A malformed reply, or one without the container, leaves the container nameless, and raises nothing."""
    with run_dir() as folder:
        daemon = Daemon(folder / "docker.sock", given)
        assert inspect(daemon.path, ID) == NAMELESS
        daemon.close()


def test_without_a_daemon_containers_are_nameless():
    """Without the daemon's socket containers are nameless."""
    with run_dir() as folder:
        assert inspect(str(folder / "none.sock"), ID) == NAMELESS


def test_a_silent_daemon_delays_nothing():
    """A daemon that accepts and never replies delays neither lookups nor the end."""
    with run_dir() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(folder / "docker.sock"))
        silent.listen(1)
        names = ContainerNames(str(folder / "docker.sock"))
        for number in range(5000):
            assert names.of(f"{number:064x}") == NAMELESS
        assert len(names._known) <= 4097
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(4096)
            names.close()
            assert names._thread.is_alive()  # `close` did not wait for the reply
        wait_until(lambda: not names._thread.is_alive(), "the end of the thread")
