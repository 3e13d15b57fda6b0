from __future__ import annotations

import fcntl
import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from dnstrail_probe.host import podman
from dnstrail_probe.host.container_name import NAMELESS, NO_LABELS, ContainerName, LabelSelection
from dnstrail_probe.host.podman import (
    MOST_BYTES,
    MOST_BYTES_OF_LABELS,
    MOST_BYTES_OF_USER,
    MOST_BYTES_OF_USERS_DATABASE,
    PodmanOfUsers,
    podman_store,
    stored,
)
from dnstrail_probe.host.user_names import UserNames
from live.processes import wait_until

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


def with_database(folder: Path, content: object) -> str:
    """Write the list of the store, and the settings of a container into the database of Podman 5; return the store."""
    (folder / "containers.json").write_text(json.dumps([entry()]))
    with closing(sqlite3.connect(folder.parent / "db.sql")) as database, database:
        database.execute("CREATE TABLE ContainerConfig (ID TEXT PRIMARY KEY, Name TEXT, PodID TEXT, JSON)")
        database.execute("INSERT INTO ContainerConfig VALUES (?, 'web', NULL, ?)", (ID, content))
    return str(folder.parent)


IN_DATABASE = {
    "selected ones": (json.dumps({"labels": {"app": "web", "other": "x"}}), (("app", "web"),), 0),
    "none": (json.dumps({"id": ID}), (), 0),
    "no text": (json.dumps({"labels": {"app": 5, "team": "a\n"}}), (), 2),
    "no mapping": (json.dumps({"labels": ["app"]}), (), 2),
    "no JSON": ("[" * 100_000, (), 2),
    "a number": (5, (), 2),
    "too much": (json.dumps({"labels": {"app": "web"}}) + " " * MOST_BYTES_OF_LABELS, (), 2),
}


@pytest.mark.parametrize(("content", "labels", "left_out"), IN_DATABASE.values(), ids=IN_DATABASE)
def test_the_database_states_labels(folder: Path, content: object, labels: object, left_out: int) -> None:
    """The labels come from the database, which costs the name nothing; what cannot be read is counted."""
    store, selection = with_database(folder, content), LabelSelection(("app", "team"))
    assert stored(store, ID, selection) == (*WEB[:2], labels)
    assert stored(store, ID) == WEB
    assert selection.left_out == left_out


@pytest.mark.parametrize("make", [lambda _: None, os.mkdir, lambda path: path.write_bytes(b"x" * 5000), os.mkfifo])
def test_without_a_database_there_are_no_labels(folder: Path, make) -> None:
    """A database that is missing, or is none, costs the labels, and holds up nothing."""
    (folder / "containers.json").write_text(json.dumps([entry()]))
    make(folder.parent / "db.sql")
    selection = LabelSelection(("app", "team"))
    assert stored(str(folder.parent), ID, selection) == WEB
    assert stored(str(folder.parent), "e" * 64, selection) == NAMELESS
    assert selection.left_out == 2


def test_a_database_that_is_locked_costs_the_labels(folder: Path, monkeypatch) -> None:
    """While Podman writes, the labels are waited for, but not without end."""
    monkeypatch.setattr(podman, "_PATIENCE", 0.01)
    store, selection = with_database(folder, json.dumps({"labels": {"app": "web"}})), LabelSelection(("app",))
    with closing(sqlite3.connect(folder.parent / "db.sql", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert stored(store, ID, selection) == WEB
    assert selection.left_out == 1
    assert stored(store, ID, selection).labels == (("app", "web"),)


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


USER = 61_998  # no other process of this host has it
OF_USER = f"alice/{ID}"
LISTS = ".local/share/containers/storage/overlay-containers"


@pytest.fixture
def host(tmp_path: Path, monkeypatch) -> Path:
    """Return the root of a host with the home of a user, and an empty store in it."""
    monkeypatch.setattr(podman, "PACE", 0.0)
    (tmp_path / "home/alice" / LISTS).mkdir(parents=True)
    (tmp_path / "passwd").write_text(
        f"alice:x:{os.getuid()}:1000::/home/alice:/bin/sh\nbob:x:{USER}:1::/none:/bin/sh\n"
    )
    return tmp_path


def found_of_user(host: Path, container: str = OF_USER) -> ContainerName | None:
    """Return the name of a container by the stores of the users."""
    return PodmanOfUsers(NO_LABELS, UserNames(host / "passwd"), host).stored(container)


@pytest.mark.parametrize("file", ["overlay-containers/volatile-containers.json", "vfs-containers/containers.json"])
def test_the_store_of_a_user_states_names_with_the_user(host: Path, file: str) -> None:
    """The name begins with the user. One who takes the name or the id of a container of root has another name."""
    list_file = host / "home/alice" / LISTS / ".." / file
    list_file.parent.mkdir(exist_ok=True)
    list_file.write_text(json.dumps([entry("f" * 64, {}), entry()]))
    assert found_of_user(host) == ContainerName("alice/web", WEB.image)
    assert found_of_user(host, f"alice/{'e' * 64}") == NAMELESS
    assert [found_of_user(host, f"{user}/{ID}") for user in ("bob", "carol", "1000")] == [None, NAMELESS, NAMELESS]


def test_a_store_of_many_containers(host: Path) -> None:
    """The last of some thousand containers is found. Beyond the bound, over all lists, there is no name."""
    folder = host / "home/alice" / LISTS
    many = [entry(f"{number:064x}") for number in range(3000)]
    (folder / "containers.json").write_text(json.dumps([*many, entry()]))
    assert found_of_user(host) == ContainerName("alice/web", WEB.image)
    (folder / "volatile-containers.json").write_text(json.dumps([*(many * 4), entry("d" * 64)]))
    assert MOST_BYTES > (folder / "volatile-containers.json").stat().st_size > MOST_BYTES_OF_USER
    assert found_of_user(host, f"alice/{'d' * 64}") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[1]",
        b"[" * 100_000,
        b"\0" * MOST_BYTES_OF_USER,
        json.dumps([entry()]).encode()[:-1],
        json.dumps([entry(metadata={**METADATA, "name": "../web"})]).encode(),
        json.dumps([entry(metadata={**METADATA, "name": "bob/web"})]).encode(),
        json.dumps([entry(metadata={**METADATA, "name": "web\x1b[2J"})]).encode(),
        json.dumps([entry(metadata={**METADATA, "name": "\u202ebew"})]).encode(),
        json.dumps([entry(metadata={**METADATA, "image-name": "a\nb"})]).encode(),
    ],
)
def test_a_damaged_store_of_a_user_gives_no_name(host: Path, content: bytes) -> None:
    """Odd content, and names that would read as those of others, give no name, and raise nothing."""
    (host / "home/alice" / LISTS / "containers.json").write_bytes(content)
    assert found_of_user(host) is None


def link_to_a_list_of_another(path: Path) -> None:
    """Make a link to a list that would give a name."""
    (path.parent / "other").write_text(json.dumps([entry()]))
    path.symlink_to(path.parent / "other")


@pytest.mark.parametrize(
    "make",
    [
        os.mkfifo,
        os.mkdir,
        link_to_a_list_of_another,
        lambda path: path.symlink_to("/etc/shadow"),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
        lambda path: path.touch() or os.truncate(path, 1 << 40),
    ],
)
def test_no_file_of_a_user_is_waited_for_or_leads_elsewhere(host: Path, make) -> None:
    """A pipe, a folder, a link or a huge file in place of the list gives no name, and holds up nothing."""
    make(host / "home/alice" / LISTS / "containers.json")
    assert found_of_user(host) is None


def test_no_folder_of_a_user_leads_elsewhere(host: Path) -> None:
    """A link in place of a folder gives no name, although a good store is behind it."""
    (host / "home/alice" / LISTS / "containers.json").write_text(json.dumps([entry()]))
    (host / "home/alice/.local").rename(host / "store")
    (host / "home/alice/.local").symlink_to(host / "store")
    assert found_of_user(host) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away, and mount")
def test_a_store_of_another_user_gives_no_name(host: Path) -> None:
    """A file that the user does not own, as a hard link to one of root, is not read."""
    path = host / "home/alice" / LISTS / "containers.json"
    path.write_text(json.dumps([entry()]))
    os.chown(path, USER, USER)
    assert found_of_user(host) is None


def test_a_lease_of_a_user_is_not_waited_for(host: Path) -> None:
    """A user who holds a lease on the list delays nothing: an open would wait until the lease ends."""
    path = host / "home/alice" / LISTS / "containers.json"
    path.write_text(json.dumps([entry()]))
    asked = list[int]()
    before = signal.signal(signal.SIGIO, lambda number, _: asked.append(number))  # any thread may receive it
    try:
        with path.open("r+") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            assert found_of_user(host) is None
            wait_until(lambda: fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_WRLCK or asked, "the signal")
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    finally:
        signal.signal(signal.SIGIO, before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_no_file_system_of_a_user_is_entered(host: Path) -> None:
    """A mount in the home, as one of FUSE that never replies, is not entered."""
    folder = host / "home/alice/.local/share"
    source = host / "source"
    folder.rename(source)
    folder.mkdir()
    (source / LISTS.removeprefix(".local/share/") / "containers.json").write_text(json.dumps([entry()]))
    subprocess.run(["mount", "--bind", source, folder], check=True)
    try:
        assert found_of_user(host) is None
    finally:
        subprocess.run(["umount", folder], check=True)


DATABASE = ".local/share/containers/storage/db.sql"


def labels_of_user(host: Path) -> tuple[object, int]:
    """Return the labels of the user's container, whose name must be there, and how many labels were left out."""
    selection = LabelSelection(("app", "team"))
    found = PodmanOfUsers(selection, UserNames(host / "passwd"), host).stored(OF_USER)
    assert found is not None
    assert found[:2] == ("alice/web", WEB.image)
    return found.labels, selection.left_out


IN_DATABASE_OF_USER = {
    "selected ones": (json.dumps({"id": ID, "labels": {"app": "web", "other": "x"}}), (("app", "web"),), 0),
    "as bytes": (json.dumps({"id": ID, "labels": {"app": "web"}, "x": "y" * 9000}).encode(), (("app", "web"),), 0),
    "none": (json.dumps({"id": ID}), (), 0),
    "of another container": (json.dumps({"id": "e" * 64, "labels": {"app": "web"}}), (), 2),
    "no text": (json.dumps({"id": ID, "labels": {"app": 5, "team": "a\n"}}), (), 2),
    "no mapping": (json.dumps({"id": ID, "labels": ["app"]}), (), 2),
    "no JSON": ("[" * 100_000, (), 2),
    "no UTF-8": (b'{"id":"' + ID.encode() + b'","labels":{"app":"\xff"}}', (), 2),
    "a number": (5, (), 2),
    "too much": (json.dumps({"id": ID, "labels": {"app": "web"}}) + " " * MOST_BYTES_OF_LABELS, (), 2),
    "a database that is too large": ("x" * MOST_BYTES_OF_USERS_DATABASE, (), 2),
}


@pytest.mark.parametrize(("content", "labels", "left_out"), IN_DATABASE_OF_USER.values(), ids=IN_DATABASE_OF_USER)
def test_the_database_of_a_user_states_labels(host: Path, content: object, labels: object, left_out: int) -> None:
    """Labels come from the database in the home. One that cannot be read costs the labels, which are counted."""
    with_database(host / "home/alice" / LISTS, content)
    assert labels_of_user(host) == (labels, left_out)
    assert found_of_user(host) == ContainerName("alice/web", WEB.image)


def test_no_lock_of_a_user_is_waited_for(host: Path) -> None:
    """Labels are read while the database is locked: the row of a container that runs is already there."""
    with_database(host / "home/alice" / LISTS, json.dumps({"id": ID, "labels": {"app": "web"}}))
    with closing(sqlite3.connect(host / "home/alice" / DATABASE, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert labels_of_user(host) == ((("app", "web"),), 0)


def test_no_statement_of_a_users_database_is_run(host: Path) -> None:
    """A view in place of the table, which would never end, gives no labels."""
    path = host / "home/alice" / LISTS / "containers.json"
    path.write_text(json.dumps([entry()]))
    with closing(sqlite3.connect(host / "home/alice" / DATABASE)) as database:
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS ID, i AS JSON FROM n"
        database.execute(f"CREATE VIEW ContainerConfig AS {endless}")
    assert labels_of_user(host) == ((), 2)


def replaced(make):
    """Return what puts another thing in the place of a file."""
    return lambda path: path.unlink() or make(path)


@pytest.mark.parametrize(
    "change",
    [
        replaced(lambda _: None),
        replaced(os.mkfifo),
        replaced(os.mkdir),
        replaced(lambda path: path.symlink_to("/etc/shadow")),
        replaced(lambda path: path.symlink_to("/dev/zero")),
        lambda path: path.rename(path.with_name("other")) and path.symlink_to("other"),
        lambda path: os.truncate(path, 1 << 40),
        lambda path: os.truncate(path, 5000),
        lambda path: path.write_bytes(b"x" * 5000),
        pytest.param(
            lambda path: os.chown(path, USER, USER),
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away"),
        ),
    ],
)
def test_no_database_of_a_user_is_waited_for_or_leads_elsewhere(host: Path, change) -> None:
    """A pipe, a folder, a link, a huge file or one of another user costs the labels, and holds up nothing."""
    with_database(host / "home/alice" / LISTS, json.dumps({"id": ID, "labels": {"app": "web"}}))
    assert labels_of_user(host) == ((("app", "web"),), 0)
    change(host / "home/alice" / DATABASE)
    assert labels_of_user(host) == ((), 2)


def test_requests_of_users_are_bounded_in_time(host: Path, monkeypatch) -> None:
    """Between two looks at stores of users there is a pause, whatever they start."""
    monkeypatch.setattr(podman, "PACE", 0.05)
    stores = PodmanOfUsers(NO_LABELS, UserNames(host / "passwd"), host)
    begin = time.monotonic()
    for _ in range(4):
        stores.stored(OF_USER)
    assert time.monotonic() - begin >= 3 * podman.PACE
