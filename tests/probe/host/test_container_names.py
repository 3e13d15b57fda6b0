from __future__ import annotations

import json
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from dnstrail.kernel.cgroups import CRI, DOCKER, PODMAN, PODMAN_OF_USERS
from dnstrail_probe.host.container_name import LONGEST_LABEL, NAMELESS, ContainerName, LabelSelection
from dnstrail_probe.host.container_names import (
    _AGAIN,
    _NEVER,
    _WAITING,
    MAX_KNOWN,
    RETRY,
    WAITING_OF_USER,
    ContainerNames,
)
from dnstrail_probe.host.docker import inspect
from dnstrail_probe.host.pod_owners import Pod, PodOwners
from live.processes import run_dir, wait_until
from live.workers import BOUND, FakeClock

Replies = queue.Queue
ID = "0123456789abcdef" * 4
OTHER = "f" * 64


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
                with suppress(OSError):  # the probe reads no more of a long reply
                    connection.sendall(self._answers.pop(0) if len(self._answers) > 1 else self._answers[0])

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(self.path)
        self._thread.join()
        self._socket.close()


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def found(container: str = ID, **values: object) -> bytes:
    """Return the reply of Docker about a container."""
    return answer(json.dumps([{"Id": container, "Names": ["/web"], "Image": "nginx:1", **values}]).encode())


FOUND = found()
WEB = ContainerName("web", "nginx:1")


def names_of(daemon: Daemon | str, monotonic: Callable[[], float] = time.monotonic) -> ContainerNames:
    """Return names that come from a socket in place of Docker's."""
    path = daemon if isinstance(daemon, str) else daemon.path
    return ContainerNames({DOCKER: partial(inspect, path)}, monotonic)


def test_name_and_image_come_from_the_daemon():
    """A container is requested once, and has its name and image from the reply on."""
    with run_dir() as folder:
        daemon = Daemon(folder / "docker.sock", FOUND)
        names = names_of(daemon)
        assert names.of(ID, DOCKER) == NAMELESS
        wait_until(lambda: names.of(ID, DOCKER) == WEB, "the name")
        names.close()
        daemon.close()
        assert [request.split(b"?")[0] for request in daemon.asked] == [b"GET /containers/json"]
        assert ID.encode() in daemon.asked[0]


@pytest.mark.parametrize("names", [["/web", "/app/db"], ["/app/db", "/web"]])
def test_a_container_with_links_has_its_own_name(names):
    """The name of a container is not the one that another container has for it."""
    with run_dir() as folder:
        daemon = Daemon(folder / "docker.sock", found(Names=names))
        assert inspect(daemon.path, ID) == WEB
        daemon.close()


@pytest.mark.parametrize("refused", ["500 Internal Server Error", "404 Not Found"])
def test_a_nameless_container_is_requested_again_later(refused):
    """After a request that failed, the next one is due in ten seconds, and one at a time is on its way."""
    with run_dir() as folder:
        daemon = Daemon(folder / "docker.sock", answer(b"{}", refused), found(OTHER), FOUND)
        clock = FakeClock()
        names = names_of(daemon, clock.monotonic)
        names.of(ID, DOCKER)
        wait_until(lambda: names.of(OTHER, DOCKER) != NAMELESS, "the reply after the failed one")
        clock.advance(RETRY - 0.1)
        assert names.of(ID, DOCKER) == NAMELESS
        assert names._runtimes[DOCKER]._requests.empty()
        clock.advance(0.2)
        assert names.of(ID, DOCKER) == NAMELESS
        wait_until(lambda: names.of(ID, DOCKER) == WEB, "the name")
        clock.advance(2 * RETRY)
        assert names.of(ID, DOCKER) != NAMELESS
        names.close()
        daemon.close()
        asked = [re.findall("%22([0-9a-f]{64})%22", request.decode())[0] for request in daemon.asked]
        assert asked == [ID, OTHER, ID]


@pytest.mark.parametrize(
    "given",
    [
        answer(b'{"message":"No such container"}', "404 Not Found"),
        answer(b"[1, 2]"),
        answer(b'{"Name": "/x", "Config": null}'),
        answer(b"no json"),
        answer(b"[" * 100_000),
        found(OTHER),
        found(Names=["/alice/web"]),
        found(Names=["/web\n"]),
        found(Names=["/\x1b[2Jweb"]),
        found(Names=["/" + "a" * 500]),
        found(Names=[["web"]]),
        found(Names=[]),
        answer(b"[]"),
        answer(b"[{}, {}]"),
        found(Image="a\0b"),
        found(Image="a" * 513),
        found(Image=7),
        found(Padding="a" * (2 << 20)),
        b"no http\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\ncut",
        b"",
    ],
)
def test_any_reply_leaves_a_container_nameless_at_worst(given):
    """A malformed reply, or one about another container, leaves the container nameless, and raises nothing."""
    with run_dir() as folder:
        daemon = Daemon(folder / "docker.sock", given)
        assert inspect(daemon.path, ID) in (NAMELESS, None)
        daemon.close()


LABELS = {
    "selected ones": ({"app": "web", "team": "shop", "other": "x"}, (("app", "web"), ("team", "shop")), 0),
    "one of two": ({"team": ""}, (("team", ""),), 0),
    "the longest": ({"app": "\xe9" * (LONGEST_LABEL // 2)}, (("app", "\xe9" * (LONGEST_LABEL // 2)),), 0),
    "too long": ({"app": "\xe9" * (LONGEST_LABEL // 2) + "a", "team": "shop"}, (("team", "shop"),), 1),
    "900 KB": ({"app": "a" * 900_000, "team": "shop"}, (("team", "shop"),), 1),
    "control characters": ({"app": "a\n\x1b[2J", "team": "\0"}, (), 2),
    "a half of a pair": ({"app": "\ud800"}, (), 1),
    "no text": ({"app": 5, "team": ["shop"]}, (), 2),
    "no labels": (None, (), 0),
    "no mapping": ("app", (), 0),
}


@pytest.mark.parametrize(("stated", "expected", "left_out"), LABELS.values(), ids=LABELS)
def test_the_daemon_states_labels(stated, expected, left_out):
    """Selected labels come with the name; one that is too long, or no printable text, is left out and counted."""
    with run_dir() as folder:
        daemon = Daemon(folder / "docker.sock", found(Labels=stated))
        selection = LabelSelection(("team", "app", "team"))
        assert inspect(daemon.path, ID, selection) == (*WEB[:2], expected)
        assert inspect(daemon.path, ID) == WEB
        daemon.close()
    assert selection.left_out == left_out


def test_names_have_the_labels_of_the_setting(monkeypatch):
    """The labels of the setting alone are read, and those that are left out are counted."""
    with run_dir() as folder:
        daemon = Daemon(folder / "docker.sock", found(Labels={"app": "web", "team": "a" * 1000, "other": "x"}))
        monkeypatch.setenv("DOCKER_HOST", f"unix://{daemon.path}")
        names = ContainerNames(labels=("app", "team"))
        names.of(ID, DOCKER)
        wait_until(lambda: names.known(ID).name, "the name")
        assert (names.known(ID), names.labels_left_out) == ((*WEB[:2], (("app", "web"),)), 1)
        names.close()
        daemon.close()


def test_without_a_daemon_containers_are_nameless():
    """Without the daemon's socket containers are nameless."""
    with run_dir() as folder:
        assert inspect(str(folder / "none.sock"), ID) is None


def test_a_silent_daemon_delays_nothing():
    """A daemon that accepts and never replies delays neither lookups nor the end."""
    with run_dir() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(folder / "docker.sock"))
        silent.listen(1)
        names = names_of(str(folder / "docker.sock"))
        for number in range(5000):
            assert names.of(f"{number:064x}", DOCKER) == NAMELESS
        assert len(names._known) <= MAX_KNOWN + 1
        assert names.failed >= 5000 - _WAITING - 1
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(4096)
            names.close()
            [thread] = names._runtimes[DOCKER].threads
            assert thread.is_alive()  # `close` did not wait for the reply
        wait_until(lambda: not thread.is_alive(), "the end of the thread")


def test_several_containers_of_pods_are_requested_at_once():
    """A runtime that needs long for each reply names more containers than one request at a time would."""
    at_once = threading.Barrier(4)

    def ask(container: str) -> ContainerName:
        at_once.wait(BOUND)
        return ContainerName(container[-1])

    names = ContainerNames({CRI: ask})
    for number in range(8):
        names.of(f"{number:064x}", CRI)
    wait_until(lambda: all(names.known(f"{number:064x}").name == str(number) for number in range(8)), "the names")
    names.close()
    wait_until(lambda: not any(thread.is_alive() for thread in names._runtimes[CRI].threads), "the end of the threads")


def test_one_late_reply_of_several_stops_the_waiting():
    """Events wait for no runtime that needs longer for one of its replies."""
    clock, replies = FakeClock(), Replies()
    names = ContainerNames({CRI: lambda _: replies.get()}, clock.monotonic)
    names.of(ID, CRI)
    wait_until(lambda: names._runtimes[CRI]._began, "the first request")
    clock.advance(0.9)
    names.of(OTHER, CRI)
    wait_until(lambda: len(names._runtimes[CRI]._began) == 2, "the second request")
    assert names.is_awaited(OTHER)
    clock.advance(0.2)
    assert not names.is_awaited(OTHER)
    replies.put(WEB)
    replies.put(WEB)
    names.close()


def test_events_wait_for_the_first_reply_of_a_runtime_alone():
    """A name is awaited from its request to the reply, or until the reply is late; not when it is requested again."""
    clock, replies, asked = FakeClock(), Replies(), Replies()
    names = ContainerNames({DOCKER: lambda container: asked.put(container) or replies.get()}, clock.monotonic)
    assert not names.is_awaited(ID)
    names.of(ID, DOCKER)
    assert names.is_awaited(ID)
    assert asked.get() == ID
    clock.advance(0.9)
    assert names.is_awaited(ID)
    clock.advance(0.2)
    assert not names.is_awaited(ID)
    replies.put(NAMELESS)
    wait_until(lambda: names._known[ID].due != _NEVER, "the reply")
    clock.advance(2 * RETRY)
    names.of(ID, DOCKER)
    assert not names.is_awaited(ID)
    replies.put(WEB)
    wait_until(lambda: names.known(ID) == WEB, "the name")
    assert (names.failed, names.is_awaited(ID)) == (0, False)
    names.close()


def test_a_name_that_is_published_before_its_reply_is_late():
    """A lookup for an event that is published counts as late before the first reply alone."""
    replies = Replies()
    names = ContainerNames({DOCKER: lambda _container: replies.get()})
    assert names.known(ID) == NAMELESS
    names.of(ID, DOCKER)
    assert (names.late, names.known(ID), names.late) == (0, NAMELESS, 1)
    replies.put(NAMELESS)
    wait_until(lambda: names._known[ID].due != _NEVER, "the reply")
    assert (names.known(ID), names.late) == (NAMELESS, 1)
    wait_until(lambda: names.unknown == 1, "the count of the reply")
    assert names.failed == 0
    names.close()


def test_events_wait_for_no_runtime_that_fails():
    """After a request that failed, events wait for no name until one has succeeded."""
    replies = Replies()
    names = ContainerNames({DOCKER: lambda _container: replies.get()})
    names.of(ID, DOCKER)
    replies.put(None)
    wait_until(lambda: names.failed == 1, "the failure")
    names.of(OTHER, DOCKER)
    assert not names.is_awaited(OTHER)
    replies.put(WEB)
    wait_until(lambda: names.known(OTHER) == WEB, "the name")
    names.of("a" * 64, DOCKER)
    assert names.is_awaited("a" * 64)
    replies.put(WEB)
    names.close()


def test_a_runtime_that_hangs_delays_no_other_one():
    """While one runtime does not reply, the names of another one arrive."""
    replies = Replies()
    names = ContainerNames({DOCKER: lambda _container: replies.get(), PODMAN: lambda _container: WEB})
    names.of(ID, DOCKER)
    names.of(OTHER, PODMAN)
    wait_until(lambda: names.known(OTHER) == WEB, "the name")
    assert names.known(ID) == NAMELESS
    replies.put(None)
    names.close()


def test_a_user_displaces_no_name_and_no_request_of_others():
    """A user who starts containers without end has a bounded share of the waiting requests, and of the names."""
    replies, asked = Replies(), Replies()
    names = ContainerNames(
        {
            DOCKER: lambda _container: WEB,
            PODMAN_OF_USERS: lambda container: asked.put(container) or replies.get(),
        }
    )
    names.of(ID, DOCKER)
    wait_until(lambda: names.known(ID) == WEB, "the name")
    for number in range(MAX_KNOWN + 10):
        names.of(f"alice/{number:064x}", PODMAN_OF_USERS)
    assert len(names._runtimes[PODMAN_OF_USERS]._requests.queue) <= WAITING_OF_USER + 1
    assert names.failed >= MAX_KNOWN + 10 - WAITING_OF_USER - 1
    names.of(f"bob/{ID}", PODMAN_OF_USERS)
    for _ in range(WAITING_OF_USER + 2):
        replies.put(ContainerName("x/y", "z"))
    wait_until(lambda: names.known(f"bob/{ID}").name == "x/y", "the name of the other user")
    assert names.known(ID) == WEB
    names.close()


def test_the_names_of_users_are_bounded():
    """Beyond the bound the oldest name of a user's container is evicted, and none of root's."""
    answered = Replies()
    names = ContainerNames({DOCKER: lambda _: WEB, PODMAN_OF_USERS: lambda one: answered.put(one) or WEB})
    names.of(ID, DOCKER)
    wait_until(lambda: names.known(ID) == WEB, "the name")
    for number in range(MAX_KNOWN + 10):
        names.of(f"alice/{number:064x}", PODMAN_OF_USERS)
        answered.get()
    assert (len(names._known), len(names._known_of_users)) == (1, MAX_KNOWN)
    names.close()


def test_events_wait_for_the_containers_of_a_user_whose_store_is_good():
    """After a failed request of a user, events wait for no name of this user, and for those of others."""
    names = ContainerNames(
        {PODMAN_OF_USERS: lambda container: None if container.startswith("alice/") else release.get()}
    )
    release = Replies()
    names.of(f"alice/{ID}", PODMAN_OF_USERS)
    wait_until(lambda: names.failed == 1, "the failure")
    names.of(f"bob/{ID}", PODMAN_OF_USERS)
    names.of(f"alice/{OTHER}", PODMAN_OF_USERS)
    assert [names.is_awaited(one) for one in (f"bob/{ID}", f"alice/{OTHER}")] == [True, False]
    release.put(WEB)
    names.close()


class Renaming:
    """Runtimes that know the names of `stated`; None lets a request fail."""

    def __init__(self, *runtimes: str) -> None:
        self.stated: dict[str, ContainerName | None] = {}
        self.clock = FakeClock()
        self.names = ContainerNames(dict.fromkeys(runtimes, self.stated.__getitem__), self.clock.monotonic)

    def note(self, container: str, runtime: str, name: str) -> None:
        """Give a container a name, and wait until it is known, as after an event."""
        self.stated[container] = ContainerName(name)
        wait_until(lambda: self.names.of(container, runtime).name == name, "the name")

    def asked_again(self, container: str, runtime: str) -> bool:
        """Return whether an event of a container leads to a request for its name."""
        requests = self.names._runtimes[runtime]._requests
        before = requests.unfinished_tasks
        assert (self.names.of(container, runtime).name != "", self.names.is_awaited(container)) == (True, False)
        again = requests.unfinished_tasks > before
        wait_until(lambda: runtime == CRI or self.names._known[container].due != _NEVER, "the reply")
        return again


@pytest.mark.parametrize("runtime", [DOCKER, PODMAN, CRI])
def test_a_name_that_may_change_is_requested_once_a_minute(runtime):
    """An event a minute after the last reply has the old name, and requests it again; not of CRI, where it is fixed."""
    renaming = Renaming(runtime)
    renaming.note(ID, runtime, "web")
    renaming.stated[ID] = ContainerName("web-old")
    renaming.clock.advance(_AGAIN - 0.1)
    assert not renaming.asked_again(ID, runtime)
    renaming.clock.advance(0.2)
    assert renaming.asked_again(ID, runtime) == (runtime != CRI)
    assert renaming.names.of(ID, runtime).name == ("web" if runtime == CRI else "web-old")
    assert (renaming.names.late, renaming.asked_again(ID, runtime)) == (0, False)
    renaming.names.close()


@pytest.mark.parametrize("reply", [None, NAMELESS])
def test_a_name_remains_until_there_is_another(reply):
    """A runtime that fails, or no longer knows the container, costs it no name; the next request is in a minute."""
    renaming = Renaming(DOCKER)
    renaming.note(ID, DOCKER, "web")
    renaming.stated[ID] = reply
    for _ in range(2):
        renaming.clock.advance(_AGAIN)
        assert renaming.asked_again(ID, DOCKER)
        assert (renaming.names.of(ID, DOCKER).name, renaming.asked_again(ID, DOCKER)) == ("web", False)
    renaming.names.close()


def test_a_new_container_with_the_name_of_another_one_expires_that_name():
    """The first name of a container requests it again for those of its runtime that hold it, and for no others."""
    renaming = Renaming(DOCKER, PODMAN)
    others = [f"{number:064x}" for number in range(3)]
    for container, runtime, name in zip(others, (DOCKER, DOCKER, PODMAN), ("web", "db", "web"), strict=True):
        renaming.note(container, runtime, name)
    renaming.stated[others[0]] = ContainerName("web-old")
    renaming.note(ID, DOCKER, "web")
    assert [renaming.asked_again(one, DOCKER) for one in (*others[:2], ID)] == [True, False, False]
    assert not renaming.asked_again(others[2], PODMAN)
    assert renaming.names.of(others[0], DOCKER).name == "web-old"
    renaming.names.close()


def test_two_containers_that_state_one_name_request_each_other_once():
    """A store that states one name for two containers leads to no more than a request of each in a minute."""
    renaming = Renaming(PODMAN)
    for container in (ID, OTHER):
        renaming.note(container, PODMAN, "web")
    again = [renaming.asked_again(container, PODMAN) for container in (ID, OTHER) * 3]
    assert again == [True] + [False] * 5
    renaming.names.close()


def test_names_that_may_have_changed_are_in_no_first_ones_way():
    """A known name is requested again only if its runtime has nothing else to do; its event has the old name."""
    asked, replies, clock = Replies(), Replies(), FakeClock()
    names = ContainerNames({DOCKER: lambda container: asked.put(container) or replies.get()}, clock.monotonic)
    containers = [f"{number:064x}" for number in range(5)]
    for container in containers:
        replies.put(WEB._replace(name=f"web-{container[-1]}"))
        names.of(container, DOCKER)
        assert asked.get(timeout=BOUND) == container
        wait_until(lambda container=container: names.known(container).name, "the name")
    clock.advance(_AGAIN)
    assert names.of(containers[0], DOCKER).name == "web-0"
    wait_until(lambda: names._runtimes[DOCKER]._began, "the request")
    assert all(names.of(container, DOCKER).name for container in containers * 2)
    assert asked.get(timeout=BOUND) == containers[0]
    names.of(ID, DOCKER)
    for _ in range(2):
        replies.put(WEB)
    assert asked.get(timeout=BOUND) == ID
    wait_until(lambda: names.of(ID, DOCKER) == WEB, "the name")
    names.close()


POD = Pod("shop", "web-1", "uid")
OF_POD = ContainerName("nginx.web-1.shop", "nginx:1", (("app", "web"),))
OWNED = OF_POD._replace(labels=(("app", "web"), ("k8s.deployment.name", "web")))


class OfPod(NamedTuple):
    """The names of containers in a pod: that of ID waits for its owner. `replies` are those to the requests `asked`."""

    names: ContainerNames
    asked: Replies
    replies: Replies
    clock: FakeClock


@pytest.fixture
def of_pod(monkeypatch: pytest.MonkeyPatch) -> Iterator[OfPod]:
    """Let the owner of a pod be requested."""
    asked, replies, clock = Replies(), Replies(), FakeClock()
    monkeypatch.setattr(PodOwners, "inspect", lambda _, container: asked.put(container) or replies.get())

    def inspect_pod(container: str) -> ContainerName:
        names._owners.note_pod(container, POD)
        return OF_POD

    names = ContainerNames({CRI: inspect_pod}, clock.monotonic, ("app", "k8s.deployment.name"))
    names.of(ID, CRI)
    assert asked.get() == ID
    yield OfPod(names, asked, replies, clock)
    names.close()


def test_a_name_waits_for_the_owner_of_its_pod(of_pod):
    """As long as the owner is awaited, events have neither name nor owner; both arrive together."""
    names, _, replies, _ = of_pod
    assert (names.of(ID, CRI), names.is_awaited(ID)) == (NAMELESS, True)
    replies.put(ContainerName(labels=(("k8s.deployment.name", "web"),)))
    wait_until(lambda: names.of(ID, CRI) == OWNED, "the owner")
    assert (names.known(ID), names.is_awaited(ID), names.late, names.owners_failed) == (OWNED, False, 0, 0)


def test_an_api_server_that_hangs_costs_the_owner_alone(of_pod):
    """A batch that is published before the owner has the name; after a second, nothing waits for owners."""
    names, _, replies, clock = of_pod
    assert (names.known(ID), names.late) == (OF_POD, 1)
    clock.advance(1.1)
    assert (names.of(ID, CRI), names.is_awaited(ID)) == (OF_POD, False)
    names.of(OTHER, CRI)
    wait_until(lambda: names.of(OTHER, CRI) == OF_POD, "the name of another container")
    assert not names.is_awaited(OTHER)
    for _ in range(2):
        replies.put(None)


def test_an_owner_is_requested_again_later(of_pod):
    """After a failed request the container keeps its name, and the owner is requested after ten seconds."""
    names, asked, replies, clock = of_pod
    replies.put(None)
    wait_until(lambda: names.owners_failed == 1, "the failure")
    wait_until(lambda: names.of(ID, CRI) == OF_POD, "the name")
    wait_until(lambda: names._known[ID].due != _NEVER, "the time of the next request")
    clock.advance(RETRY - 0.1)
    assert names.of(ID, CRI) == OF_POD
    assert asked.empty()
    clock.advance(0.2)
    assert names.of(ID, CRI) == OF_POD
    assert asked.get() == ID
    assert (names.of(ID, CRI), names.is_awaited(ID)) == (OF_POD, False)
    replies.put(ContainerName(labels=(("k8s.deployment.name", "web"),)))
    wait_until(lambda: names.of(ID, CRI) == OWNED, "the owner")
    assert (names.failed, names.owners_failed) == (0, 1)


def test_the_requests_for_owners_are_bounded(of_pod):
    """While the API server hangs, a bounded number of requests waits; the others are counted, and all have names."""
    names, _, replies, _ = of_pod
    containers = [f"{number:064x}" for number in range(_WAITING + 10)]
    for some in (containers[:100], containers[100:200], containers[200:]):
        for container in some:
            names.of(container, CRI)
        wait_until(lambda some=some: names.known(some[-1]) == OF_POD, "the names")
    wait_until(lambda: names.owners_failed == 10, "the refused requests")
    assert names.of(containers[-1], CRI) == OF_POD
    for _ in range(_WAITING + 1):
        replies.put(NAMELESS)
    wait_until(lambda: names.of(containers[0], CRI) == OF_POD, "a pod without an owner")
    assert names.failed == 0


def test_a_container_of_an_unknown_runtime_has_no_name():
    """A container whose runtime cannot be asked has no name, and no request waits for it."""
    names = ContainerNames({})
    assert names.of(ID, "") == NAMELESS
    assert not names.is_awaited(ID)
    names.close()
