"""The sockets of services that a command under `--enforce` does not find."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail.errors import SourceUnavailable
from dnstrail_run.enforce import services
from dnstrail_run.enforce.services import MOST_HIDDEN, hide_services
from live.processes import run_dir

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
OTHER = 60_543  # a user
# Hides in a process of its own; prints the hidden paths, and the paths that are sockets afterwards.
HIDES = """
import json, sys
from pathlib import Path
from dnstrail_run.enforce import services
folder, user, any_question, *allowed = sys.argv[1:]
services._OF_ROOT, services._OF_USER = (f"{folder}/root.sock", ), (f"{folder}/{{}}/*",)
services._ASKING = (f"{folder}/nscd", )
hidden = services.hide_services(int(user), allowed, any_question=any_question == "any")
left = [str(path) for path in Path(folder).rglob("*") if path.is_socket()]
print(json.dumps([sorted(hidden), sorted(left)]))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder with sockets of root and of a user."""
    with run_dir() as made:
        (made / str(OTHER)).mkdir()
        for name in ("root.sock", "nscd", f"{OTHER}/own", f"{OTHER}/foreign", "other.sock"):
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(made / name))
        (made / str(OTHER) / "file").touch()
        (made / str(OTHER) / "link").symlink_to(made / "other.sock")
        (made / str(OTHER) / "nowhere").symlink_to(made / "nothing")
        os.chown(made / str(OTHER) / "own", OTHER, OTHER)
        yield made


def hidden_in(folder: Path, *allowed: str, any_question: str = "any") -> tuple[list[str], list[str]]:
    """Hide the sockets of a folder; return the names of those hidden, and of those left."""
    command = [sys.executable, "-c", HIDES, str(folder), str(OTHER), any_question, *allowed]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    hidden, left = ([path.removeprefix(f"{folder}/") for path in paths] for paths in json.loads(done.stdout))
    return hidden, left


def test_sockets_of_services_and_of_the_user_are_hidden(folder):
    """The sockets of root's services and the user's own are hidden: no file, and no socket of another by a link."""
    hidden, left = hidden_in(folder)
    assert hidden == [f"{OTHER}/own", "root.sock"]
    assert {"other.sock", "nscd", f"{OTHER}/foreign"} <= set(left)
    assert not {*hidden} & {*left}
    assert (folder / "root.sock").is_socket(), "the rest of the host finds it"


def test_a_path_that_is_no_text_is_escaped(folder):
    """The path of a socket is text for a report, whatever bytes its user gave it."""
    path = os.fsencode(folder / str(OTHER)) + b"/\xff"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
    os.chown(path, OTHER, OTHER)
    assert f"{OTHER}/\\xff" in hidden_in(folder)[0]


def test_an_allowed_socket_stays(folder):
    """A socket of the list stays, by whatever path the list names it."""
    (folder / "by-link").symlink_to(folder / "root.sock")
    assert hidden_in(folder, str(folder / "by-link"))[0] == [f"{OTHER}/own"]
    assert hidden_in(folder, str(folder / "root.sock"), str(folder / str(OTHER) / "own"))[0] == []


def test_the_environment_names_sockets(folder, monkeypatch):
    """A socket that a variable names is hidden, and nothing else that one names."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/other.sock")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"tcp:host=a;unix:path={folder}/{OTHER}/foreign,guid=1")
    monkeypatch.setenv("CONTAINER_HOST", f"unix://{folder}/nothing")
    assert hidden_in(folder)[0] == [f"{OTHER}/foreign", f"{OTHER}/own", "other.sock", "root.sock"]


def test_services_that_ask_for_others_are_hidden(folder):
    """Where questions are listed, no service asks for the command: a list that has its socket starts nothing."""
    assert hidden_in(folder, any_question="")[0] == [f"{OTHER}/own", "nscd", "root.sock"]
    with pytest.raises(AssertionError, match=r"nscd, and the service behind it asks any name .* --any-question"):
        hidden_in(folder, str(folder / "nscd"), any_question="")


def test_endless_sockets_are_refused(folder, monkeypatch):
    """A user with more sockets than the bound starts no command."""
    monkeypatch.setattr(services, "_OF_ROOT", ())
    monkeypatch.setattr(services, "_OF_USER", (f"{folder}/{{}}/*",))
    for number in range(MOST_HIDDEN):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{folder}/{OTHER}/{number}")
    with pytest.raises(SourceUnavailable, match=f"more than {MOST_HIDDEN}"):
        hide_services(OTHER, (), any_question=True)
