"""The cgroups of this host, with container, unit and owner of each: a table fed by their creation and removal."""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

from dnstrail.container import is_roots
from dnstrail.kernel.cgroups import PODMAN_OF_USERS, container_id, container_of_user, owner_path, runtime_of
from dnstrail.kernel.systemd_units import Unit, unit_of

REMEMBERED = 60_000_000_000  # ns for which a removed cgroup is kept
GONE = (1 << 53) - 1  # the owner of all cgroups that were removed before they were looked at: the id of no cgroup
_LOOK_AGAIN = 1_000_000_000  # ns between two looks at the folders above a cgroup, which root may give away meanwhile
MAX_CGROUPS = 65536  #: cgroups -> one that is gone is evicted, else one below another owner: `cgroups_dropped`
MAX_PATH = 100  # characters of a path that are kept
_NO_UNIT = Unit()


class Cgroup(NamedTuple):
    """The container of a cgroup, "" on the host, its unit, the beginning of its path, and its owner.

    The id of a user's container begins with the user and a slash. `runtime` is the runtime of the container. `folder`
    is the path of the owner, and `looked` the time of the last look at the folders above it.
    """

    container: str
    runtime: str
    unit: Unit
    path: str
    owner: int
    folder: str
    looked: int


class Containers:
    """The cgroups of this host, with the container, the unit and the owner of each.

    Times (ns) come with the events, so the table reads no clock. It never holds more than `most` cgroups: beyond that
    it evicts a removed one, else the oldest below another owner, which a user can have made, else the oldest. It counts
    the evictions in `dropped`. `is_roots` returns true for a folder of the hierarchy in which only root can make
    cgroups, and `id_of` returns the id of a folder, 0 if it is gone. `note_owner` receives each cgroup with its owner,
    and again when the owner changes. `user_name` returns the name of a user by id.
    """

    def __init__(
        self,
        is_roots: Callable[[str], bool],
        id_of: Callable[[str], int],
        most: int = MAX_CGROUPS,
        note_owner: Callable[[int, int], None] = lambda _cgroup, _owner: None,
        user_name: Callable[[int], str] = str,
    ) -> None:
        self.dropped = 0
        self._is_roots = is_roots
        self._id_of = id_of
        self._most = most
        self._note_owner = note_owner
        self._user_name = user_name
        self._cgroups: OrderedDict[int, Cgroup] = OrderedDict()
        self._below: OrderedDict[int, None] = OrderedDict()  # the cgroups whose owner is another one
        self._removed: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._cgroups)

    def of(self, cgroup: int) -> str | None:
        """Return the container of a cgroup, "" on the host; None if the cgroup is unknown."""
        found = self._cgroups.get(cgroup)
        return found.container if found else None

    def runtime(self, cgroup: int) -> str:
        """Return the runtime of the container of a cgroup; "" if it cannot be asked, or the cgroup is unknown."""
        found = self._cgroups.get(cgroup)
        return found.runtime if found else ""

    def unit(self, cgroup: int) -> Unit:
        """Return the systemd unit and slice of a cgroup; empty ones if there is none, or the cgroup is unknown."""
        found = self._cgroups.get(cgroup)
        return found.unit if found else _NO_UNIT

    def path(self, cgroup: int) -> str:
        """Return the beginning of the path of a cgroup; "" if the cgroup is unknown."""
        found = self._cgroups.get(cgroup)
        return found.path if found else ""

    def owner(self, cgroup: int, now: int) -> int:
        """Return the owner of a cgroup, the id of a cgroup; GONE if the cgroup is unknown."""
        found = self._cgroups.get(cgroup)
        if found is None:
            return GONE
        if now - found.looked > _LOOK_AGAIN:
            folder = owner_path(found.folder, self._is_roots)
            owner = found.owner if folder == found.folder else self._id_of(folder)
            if owner:  # else the folder is gone
                if owner != found.owner:
                    self._note_owner(cgroup, owner)
                found = found._replace(owner=owner, folder=folder)
            found = self._cgroups[cgroup] = found._replace(looked=now)
        return found.owner

    def made(self, cgroup: int, path: str, now: int) -> str:
        """Add a cgroup; return its container."""
        folder = owner_path(path, self._is_roots)
        owner = cgroup if folder == path else self._id_of(folder) or GONE
        shown = os.fsencode(path).decode(errors="backslashreplace")[:MAX_PATH]
        container, runtime = self._container_of(path)
        unit = self._unit_of(path, container)
        found = self._cgroups[cgroup] = Cgroup(container, runtime, unit, shown, owner, folder, now)
        self._note_owner(cgroup, owner)
        if owner != cgroup:
            self._below[cgroup] = None
        while len(self._cgroups) > self._most:
            self._evict()
            self.dropped += 1
        return found.container

    def removed(self, cgroup: int, stamp: int) -> None:
        """Remove a cgroup, after a minute; the kernel does not reuse its id."""
        self._removed.append((stamp, cgroup))
        while self._removed and (self._removed[0][0] < stamp - REMEMBERED or len(self._removed) > self._most):
            self._drop(self._removed.popleft()[1])

    def _container_of(self, path: str) -> tuple[str, str]:
        """Return the container of a cgroup and its runtime; the container of a user begins with the user."""
        if container := container_id(path, self._is_roots):
            return container, runtime_of(path)
        if found := container_of_user(path, self._is_roots):
            user, identity = found
            return f"{self._user_name(user)}/{identity}", PODMAN_OF_USERS
        return "", ""

    def _unit_of(self, path: str, container: str) -> Unit:
        """Return the unit of a cgroup. A container of root has one only if it runs in a service."""
        if is_roots(container) and f"/libpod-payload-{container}" not in path:
            return _NO_UNIT
        return unit_of(path, self._is_roots, self._user_name)

    def _evict(self) -> None:
        """Evict one cgroup."""
        held = len(self._cgroups)
        while self._removed and len(self._cgroups) == held:
            self._drop(self._removed.popleft()[1])
        if len(self._cgroups) == held:
            self._drop(next(iter(self._below or self._cgroups)))

    def _drop(self, cgroup: int) -> None:
        self._cgroups.pop(cgroup, None)
        self._below.pop(cgroup, None)
