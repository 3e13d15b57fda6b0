"""The name and image of a container from the store of Podman (containers-storage: containers.json).

Podman needs no daemon. It writes a container into this store before it makes the cgroup of the container.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

from dnstrail.regular_file import read_regular
from dnstrail_probe.host.container_name import NAMELESS, ContainerName, container_name

#: variable: settings of Podman's store, for names and images of containers (default: /etc/containers/storage.conf)
_STORAGE_CONF = "CONTAINERS_STORAGE_CONF"
_DEFAULT_CONF = "/etc/containers/storage.conf"
_DEFAULT_STORE = "/var/lib/containers/storage"
_FILES = ("containers.json", "volatile-containers.json")  # the second one has those of `podman run --rm`
#: bytes of the list of containers in Podman's store -> beyond them its containers have no names
MOST_BYTES = 8 << 20
_MOST_OF_CONF = 1 << 20


def podman_store() -> str:
    """Return the folder of the store: `graphroot` of storage.conf(5)."""
    try:
        conf = read_regular(os.environ.get(_STORAGE_CONF) or _DEFAULT_CONF, _MOST_OF_CONF)
        store = tomllib.loads(conf.decode())["storage"]["graphroot"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return _DEFAULT_STORE
    return store if isinstance(store, str) and store.startswith("/") else _DEFAULT_STORE


def stored(store: str, container: str) -> ContainerName | None:
    """Return the name of a container in a store; None if the store cannot be read.

    The container is in a folder for its storage driver: `overlay-containers`.
    """
    try:
        folders = [*Path(store).glob("*-containers")]
        entries = [entry for folder in folders for file in _FILES for entry in _entries(folder / file)]
        for entry in entries:
            if entry["id"] == container:
                metadata: Any = json.loads(entry["metadata"])
                return container_name(metadata["name"], metadata["image-name"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return NAMELESS if folders else None


def _entries(file: Path) -> list[Any]:
    try:
        found: Any = json.loads(read_regular(file, MOST_BYTES, links=False))
    except FileNotFoundError:
        return []
    if not isinstance(found, list):
        raise TypeError("no list of containers")
    return found
