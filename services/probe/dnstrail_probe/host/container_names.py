"""The names, images and labels of containers, requested from their runtimes in threads."""

from __future__ import annotations

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from dnstrail.container import user_of
from dnstrail.kernel.capabilities import keep_capabilities
from dnstrail.kernel.cgroups import CRI, DOCKER, PODMAN, PODMAN_OF_USERS
from dnstrail_probe.host.container_name import NAMELESS, ContainerName, LabelSelection
from dnstrail_probe.host.cri import Cri
from dnstrail_probe.host.docker import docker_socket, inspect
from dnstrail_probe.host.pod_owners import PodOwners
from dnstrail_probe.host.podman import PodmanOfUsers, podman_store, stored

MAX_KNOWN = 4096  # names of root's containers, and of users'; beyond it the oldest is evicted, and queried again
_WAITING = 256  # containers whose request may wait for one runtime
WAITING_OF_USER = 16  # those of one user
#: seconds after a failed query for the name of a container -> until then its events have no name
RETRY = 10.0  # the runtime may be busy, or may not know the container
_AGAIN = 60.0  # seconds from a name to its next request: Docker and Podman can rename a container
# Seconds for a request; events wait for no runtime that needs longer. It begins with the cgroup of the container, some
# time before the first event.
_PROMPT = 1.0
_NEVER = float("inf")
_OWNERS = "owners of pods"  # is asked as a runtime is, behind the one that states the pod

# On a busy node a reply takes a tenth of a second, and more containers start than one request at a time would name.
_THREADS = {CRI: 4}
# For the stores in homes that only their users may enter; SYS_PTRACE leads to the root of process 1.
_CAPABILITIES = {PODMAN_OF_USERS: ("CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE")}

Request = Callable[[str], ContainerName | None]  # container -> its name; NAMELESS: unknown; None: the runtime failed


class _Known(NamedTuple):
    """A container: its name, the monotonic time of the next request, and the runtime whose first reply is due.

    `renamer` is the runtime that stated the name and can change it.
    """

    name: ContainerName = NAMELESS
    due: float = _NEVER
    runtime: str = ""
    renamer: str = ""


class ContainerNames:
    """The names of containers, from a cache that threads of each runtime fill.

    A lookup never waits: it returns the cached name and requests a missing one. The first events of a container can
    therefore lack its name. Cache and queues are bounded; a user displaces no name of root's, and no request of
    another user. A request that failed is repeated after RETRY at the earliest. Docker and Podman can rename a
    container: an event a minute later requests its name again if its runtime is idle, and has the old one. `failed`
    counts the requests to which a runtime gave no usable reply, and those that found too many waiting; `unknown` those
    to which it replied that it does not know the container. `late` counts the lookups by `known` before the first
    reply. `labels` are the keys of the labels that are read. If they name owners of pods, a name has its owner soon
    after: a thread of its own asks the API server, and `of` holds the name back as long as the owner is awaited.
    """

    def __init__(
        self,
        runtimes: Mapping[str, Request] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        labels: tuple[str, ...] = (),
    ) -> None:
        self.late = 0
        self._owners = PodOwners(labels)
        self._selection = LabelSelection(labels)
        self._monotonic = monotonic
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._known_of_users: OrderedDict[str, _Known] = OrderedDict()
        requests = _requests(self._selection, self._owners) if runtimes is None else runtimes
        # The threads start before this process drops the privileges that the sockets require.
        self._runtimes = {
            name: _Runtime(name, request, partial(self._note, name), monotonic) for name, request in requests.items()
        }
        if self._owners.keys:
            self._runtimes[_OWNERS] = _Runtime(_OWNERS, self._owners.inspect, self._note_owner, monotonic)

    @property
    def failed(self) -> int:
        """The number of requests for names that failed, or found too many waiting."""
        return sum(runtime.failed + runtime.refused for name, runtime in self._runtimes.items() if name != _OWNERS)

    @property
    def unknown(self) -> int:
        """The number of requests for the name of a container that its runtime did not know."""
        return sum(runtime.unknown for name, runtime in self._runtimes.items() if name != _OWNERS)

    @property
    def owners_failed(self) -> int:
        """The number of requests for owners of pods that failed, or found too many waiting."""
        runtime = self._runtimes.get(_OWNERS)
        return runtime.failed + runtime.refused if runtime else 0

    @property
    def labels_left_out(self) -> int:
        """The number of labels that were left out."""
        return self._selection.left_out

    def of(self, container: str, runtime: str) -> ContainerName:
        """Return the name of a container; nameless until its runtime has replied, and without a runtime."""
        known = self._table(container).get(container)
        if known is None:
            if container and runtime in self._runtimes:
                self._request(container, runtime, _Known(runtime=runtime))
            return NAMELESS
        if known.due != _NEVER and known.due <= self._monotonic():
            if known.name == NAMELESS:
                self._request(container, runtime, _Known())
            elif known.renamer:
                if self._runtimes[known.renamer].is_idle:
                    self._request(container, known.renamer, known._replace(due=_NEVER))
            else:
                self._request_owner(container, _Known(known.name))
        return NAMELESS if known.runtime == _OWNERS and self.is_awaited(container) else known.name

    def known(self, container: str) -> ContainerName:
        """Return the name of a container as far as it is known."""
        known = self._table(container).get(container)
        if known is None:
            return NAMELESS
        self.late += known.runtime != ""
        return known.name

    def is_awaited(self, container: str) -> bool:
        """Return whether the first reply about a container is due soon: its runtime neither hangs nor fails."""
        known = self._table(container).get(container)
        return known is not None and known.runtime != "" and self._runtimes[known.runtime].is_prompt(container)

    def close(self) -> None:
        """Let the threads end after their present requests. Do not wait: they hold nothing but those requests."""
        for runtime in self._runtimes.values():
            runtime.close()

    def _request(self, container: str, runtime: str, known: _Known) -> None:
        table = self._table(container)
        table[container] = known
        while len(table) > MAX_KNOWN:
            table.popitem(last=False)
        if not self._runtimes[runtime].request(container):
            table.pop(container, None)  # its next event requests it again

    def _request_owner(self, container: str, known: _Known) -> None:
        self._known[container] = known
        if not self._runtimes[_OWNERS].request(container):
            self._note_owner(container, None)

    def _note(self, runtime: str, container: str, found: ContainerName | None) -> None:
        table, now = self._table(container), self._monotonic()
        known = table.get(container)
        if known is None:
            return
        if found is None or found == NAMELESS:
            table[container] = known._replace(due=now + _AGAIN) if known.renamer else _Known(due=now + RETRY)
        elif container in self._owners.pods:
            self._request_owner(container, _Known(found, runtime=_OWNERS))
        elif runtime == CRI:
            table[container] = _Known(found)
        else:
            if not known.renamer:
                self._expire(table, runtime, found.name)
            table[container] = _Known(found, now + _AGAIN, renamer=runtime)

    def _expire(self, table: OrderedDict[str, _Known], runtime: str, name: str) -> None:
        """Let the next events of the containers that have a name request it again: a new container has it."""
        now = self._monotonic()
        for container in [*table]:  # in one step: the thread of the events adds and evicts meanwhile
            known = table.get(container)
            if known and known.name.name == name and known.renamer == runtime and known.due > now:
                table[container] = known._replace(due=now)

    def _note_owner(self, container: str, found: ContainerName | None) -> None:
        """Add the owner of a pod to the labels of its container; None: it is requested again after RETRY."""
        known = self._known.get(container)
        if known is None or known.name == NAMELESS:
            return  # evicted meanwhile
        if found is None:
            self._known[container] = _Known(known.name, self._monotonic() + RETRY)
        else:
            labels = tuple(sorted({*known.name.labels, *found.labels}))
            self._known[container] = _Known(known.name._replace(labels=labels))

    def _table(self, container: str) -> OrderedDict[str, _Known]:
        return self._known_of_users if "/" in container else self._known


class _Runtime:
    """The threads that ask one runtime, each one container after the other. They keep only its capabilities."""

    def __init__(
        self,
        name: str,
        request: Request,
        note: Callable[[str, ContainerName | None], None],
        monotonic: Callable[[], float],
    ) -> None:
        self.failed = self.unknown = self.refused = 0
        self._monotonic = monotonic
        self._ask = request
        self._note = note
        self._open = True
        self._failed: str | None = None  # the user of the last request, "" for root, if it failed
        self._capabilities = _CAPABILITIES.get(name, ())  # without any, owner and group of sockets and store are enough
        self._began: dict[int, float] = {}  # the present request of each thread
        self._requests: queue.Queue[str] = queue.Queue(_WAITING)
        self.threads = [
            threading.Thread(target=self._work, args=(number,), name=f"container names: {name}", daemon=True)
            for number in range(_THREADS.get(name, 1))
        ]
        for thread in self.threads:
            thread.start()

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way, and none waits."""
        return not self._began and self._requests.empty()

    def is_prompt(self, container: str) -> bool:
        """Return whether the last request succeeded, or was another user's, and no present one is late."""
        first = min([*self._began.values()], default=_NEVER)
        return self._failed != user_of(container) and self._monotonic() < first + _PROMPT

    def request(self, container: str) -> bool:
        """Request the name of a container; return False if too many wait, in all or of its user."""
        if user := user_of(container):
            with self._requests.mutex:
                waiting = sum(user_of(one) == user for one in self._requests.queue)
            if waiting >= WAITING_OF_USER:
                return self._refuse()
        try:
            self._requests.put_nowait(container)
        except queue.Full:
            return self._refuse()
        return True

    def _refuse(self) -> bool:
        with self._requests.mutex:  # two threads request owners
            self.refused += 1
        return False

    def close(self) -> None:
        """Let the threads end after their present requests."""
        self._open = False
        for _ in self.threads:
            self.request("")

    def _work(self, number: int) -> None:
        keep_capabilities(*self._capabilities)
        while (container := self._requests.get()) and self._open:
            self._began[number] = self._monotonic()
            found = self._ask(container)
            del self._began[number]
            self._failed = user_of(container) if found is None else None
            self._note(container, found)
            with self._requests.mutex:
                self.failed += found is None
                self.unknown += found == NAMELESS


def _requests(selection: LabelSelection, owners: PodOwners) -> dict[str, Request]:
    """Return how the runtimes of this host are asked."""
    return {
        DOCKER: partial(inspect, docker_socket(), selection=selection),
        PODMAN: partial(stored, podman_store(), selection=selection),
        CRI: Cri(selection, owners.note_pod).inspect,
        PODMAN_OF_USERS: PodmanOfUsers(selection).stored,
    }
