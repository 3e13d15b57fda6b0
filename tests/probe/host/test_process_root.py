from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail_probe.host.process_root import identity, open_below, open_root


@pytest.fixture
def root(tmp_path) -> Iterator[int]:
    """Yield a folder with one file, in place of the root of a process."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "file").write_text("inside")
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def content(root: int, path: str) -> str:
    """Return the content of a file below a root."""
    with open_below(root, path) as file:
        return os.pread(file, 100, 0).decode()


def test_the_root_of_a_process():
    """The root of this process is its root directory."""
    with open_root(os.getpid()) as own:
        assert identity(os.fstat(own)) == identity(Path("/").stat())


def test_a_process_that_is_gone():
    """A process that has ended has no root."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(OSError, match="No such"), open_root(child):
        pass


@pytest.mark.parametrize("path", ["/lib/file", "lib/file", "/lib/../../../lib/file", "/lib/absolute", "/lib/up"])
def test_links_stay_below_the_root(root, tmp_path, path):
    """Absolute paths, absolute links and .. are resolved below the root."""
    (tmp_path / "lib" / "absolute").symlink_to("/lib/file")
    (tmp_path / "lib" / "up").symlink_to("../../../../../../../lib/file")
    assert content(root, path) == "inside"


def test_what_lies_outside_is_not_reached(root, tmp_path):
    """A link to a file outside the root leads nowhere."""
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="No such"):
        content(root, "/link")


def test_magic_links_are_not_followed(root, tmp_path):
    """A magic link of /proc, which would lead outside, is refused."""
    (tmp_path / "self").symlink_to("/proc/self/root/etc/passwd")
    with pytest.raises(OSError, match=r"No such|Too many"):
        content(root, "/self")
    host = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="Too many"):
            content(host, "/proc/self/root/etc/passwd")
    finally:
        os.close(host)


def test_only_files_are_opened(root, tmp_path):
    """A pipe without writer and a folder are refused, without waiting."""
    os.mkfifo(tmp_path / "pipe")
    for path in ("/pipe", "/lib"):
        with pytest.raises(OSError, match="no regular file"):
            content(root, path)


def test_nothing_stays_open(root):
    """No descriptor stays open, for a file or for none."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert content(root, "/lib/file") == "inside"
    with pytest.raises(OSError, match="No such"):
        content(root, "/none")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert stat.S_ISDIR(os.fstat(root).st_mode)
