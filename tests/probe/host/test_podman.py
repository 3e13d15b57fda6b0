from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dnstrail_probe.host.container_name import NAMELESS, ContainerName
from dnstrail_probe.host.podman import MOST_BYTES, podman_store, stored

ID = "0123456789abcdef" * 4
METADATA = {"name": "web", "image-name": "docker.io/library/nginx:1"}
WEB = ContainerName(METADATA["name"], METADATA["image-name"])


def entry(container: str = ID, metadata: object = METADATA) -> dict[str, object]:
    """Return a container as the store states it."""
    return {"id": container, "names": ["web"], "metadata": json.dumps(metadata)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the containers in an empty store."""
    made = tmp_path / "overlay-containers"
    made.mkdir()
    return made


@pytest.mark.parametrize("file", ["containers.json", "volatile-containers.json"])
def test_the_store_states_name_and_image(folder: Path, file: str) -> None:
    """A container is found in the list of its store, also one that is removed at its end."""
    (folder / file).write_text(json.dumps([entry("f" * 64, {}), entry()]))
    assert stored(str(folder.parent), ID) == WEB
    assert stored(str(folder.parent), "e" * 64) == NAMELESS


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[1]",
        b"[" * 100_000,
        json.dumps([{"id": ID}]).encode(),
        json.dumps([entry(metadata=[])]).encode(),
        json.dumps([entry(metadata={**METADATA, "name": "alice/web"})]).encode(),
        json.dumps([entry(metadata={**METADATA, "name": "web\x1b[2J"})]).encode(),
        json.dumps([entry(metadata={**METADATA, "name": 5})]).encode(),
        json.dumps([entry(metadata={**METADATA, "image-name": "a" * 513})]).encode(),
        json.dumps([entry()]).encode() + b" " * MOST_BYTES,
    ],
)
def test_a_store_with_odd_content_gives_no_name(folder: Path, content: bytes) -> None:
    """A list that is malformed or too long, and a name that Podman accepts not, give no name, and raise nothing."""
    (folder / "containers.json").write_bytes(content)
    assert stored(str(folder.parent), ID) is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_list_that_is_no_file_gives_no_name(folder: Path, make) -> None:
    """A pipe, a folder or a link in place of the list gives no name, and holds up nothing."""
    make(folder / "containers.json")
    assert stored(str(folder.parent), ID) is None


def test_without_a_store_there_is_no_name(tmp_path: Path) -> None:
    """A store that is missing or empty gives no name."""
    assert stored(str(tmp_path / "none"), ID) is None
    assert stored(str(tmp_path), ID) is None


@pytest.mark.parametrize(
    ("conf", "store"),
    [
        ('[storage]\ngraphroot = "/data/containers"\n', "/data/containers"),
        ("[storage]\n", "/var/lib/containers/storage"),
        ('[storage]\ngraphroot = "relative"\n', "/var/lib/containers/storage"),
        ("[storage]\ngraphroot = 5\n", "/var/lib/containers/storage"),
        ("no toml", "/var/lib/containers/storage"),
        ("storage = 1", "/var/lib/containers/storage"),
    ],
)
def test_the_settings_of_podman_name_the_store(tmp_path: Path, monkeypatch, conf: str, store: str) -> None:
    """The store is in the folder that storage.conf names, else in the default one."""
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "conf"))
    assert podman_store() == "/var/lib/containers/storage"
    (tmp_path / "conf").write_text(conf)
    assert podman_store() == store
