from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnstrail_probe.ebpf.getaddrinfo import uprobes as overlay_module
from dnstrail_probe.ebpf.getaddrinfo.uprobes import layers, open_layer
from dnstrail_probe.host.process_root import identity, open_below, open_root
from live.getaddrinfo_program import make_root

OTHERS = (
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n",
    "30 29 0:26 / /sys rw,nosuid - sysfs sysfs rw\n",
)
DOCKER = (
    "606 570 0:53 / / rw,relatime master:287 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/AAA:"
    "/var/lib/docker/overlay2/l/BBB,upperdir=/var/lib/docker/overlay2/ccc/diff,"
    "workdir=/var/lib/docker/overlay2/ccc/work,index=off\n"
)
NEWER = "67 43 0:39 / / rw - overlay none ro,lowerdir+=/a\\054b,lowerdir+=/c\\040d,uuid=on\n"


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        (
            DOCKER + OTHERS[1],
            ["/var/lib/docker/overlay2/ccc/diff", "/var/lib/docker/overlay2/l/AAA", "/var/lib/docker/overlay2/l/BBB"],
        ),
        (NEWER, ["/a,b", "/c d"]),
        ("".join(OTHERS), []),
        (DOCKER.replace(" / / ", " / /somewhere "), []),
        (DOCKER + OTHERS[0], []),
        (DOCKER.replace("/var/lib/docker/overlay2/l", "l"), ["/var/lib/docker/overlay2/ccc/diff"]),
        ("", []),
        ("a\n- overlay\n/ - / -\n1 2 3 4 / - overlay\n", []),
    ],
    ids=["docker", "named one by one", "none", "elsewhere", "below another", "relative", "empty", "odd"],
)
def test_the_layers_of_a_root(mounts, found):
    """The layers are those of the last mount at / if it is an overlay, topmost first, unescaped."""
    assert layers(mounts) == found


@pytest.fixture
def overlay(tmp_path) -> Iterator[tuple[int, Path]]:
    """Run a process whose root is an overlay; yield its pid and the folder of its layers."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can mount")
    for name in ("lower", "upper", "work", "root"):
        (tmp_path / name).mkdir()
    make_root(tmp_path / "lower", Path("/bin/cat"))
    script = (
        'mount -t overlay none -o "lowerdir=$0/lower,upperdir=$0/upper,workdir=$0/work" "$0/root" && cd "$0/root"'
        " && mkdir old && pivot_root . old && exec /cat"
    )
    command = ["unshare", "--mount", "sh", "-c", script, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"runs\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"runs\n"
        yield process.pid, tmp_path
        process.kill()


def test_a_file_in_a_layer(overlay):
    """A file of an overlay is found in its layer, where it has another identity."""
    pid, folder = overlay
    with open_root(pid) as root, open_below(root, "/cat") as file, open_layer(pid, file) as (real, path):
        assert path == f"{folder}/lower/cat"
        assert identity(os.fstat(real)) == identity((folder / "lower" / "cat").stat()) != identity(os.fstat(file))


def test_a_file_that_was_copied_up(overlay):
    """After a copy-up the file of the lower layer is not used."""
    pid, folder = overlay
    Path(f"/proc/{pid}/root/cat").chmod(0o700)
    assert (folder / "upper" / "cat").exists()
    with open_root(pid) as root, open_below(root, "/cat") as file, open_layer(pid, file) as (real, path):
        assert path == "" or path.startswith(f"{folder}/upper/")
        assert identity(os.fstat(real)) != identity((folder / "lower" / "cat").stat())


def other_file(path):
    """Put another file at a path."""
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def pipe(path):
    """Put a pipe without a writer at a path."""
    path.unlink()
    os.mkfifo(path)


def link_to_a_pipe(path):
    """Put a link to a pipe outside of the layer at a path."""
    path.unlink()
    os.mkfifo(path.parents[1] / "pipe")
    path.symlink_to(path.parents[1] / "pipe")


@pytest.mark.parametrize("replace", [other_file, pipe, link_to_a_pipe])
def test_a_file_that_was_replaced_in_its_layer(overlay, replace):
    """If the layer has something else at the path, the file of the overlay is used, and a pipe is never opened."""
    pid, folder = overlay
    with open_root(pid) as root, open_below(root, "/cat") as file:
        replace(folder / "lower" / "cat")
        with open_layer(pid, file) as (real, path):
            assert (real, path) == (file, "")


def test_a_layer_that_is_a_pipe_is_not_opened(monkeypatch, tmp_path):
    """A mount can name any path of the host as a layer: a pipe without a writer is refused, without waiting."""
    os.mkfifo(tmp_path / "pipe")
    mount = f"67 43 0:39 / / rw - overlay none ro,lowerdir={tmp_path}/pipe\n"
    monkeypatch.setattr(overlay_module, "_mounts", lambda _: mount)
    with (tmp_path / "file").open("w") as file, open_layer(1, file.fileno()) as (real, path):
        assert (real, path) == (file.fileno(), "")


def test_a_file_of_no_overlay_is_itself(tmp_path):
    """Without an overlay the file itself is used, and no descriptor stays open."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted while nothing of it is open
    file = os.open(tmp_path, os.O_RDONLY)
    with open_layer(os.getpid(), file) as (real, path):
        assert (real, path) == (file, "")
    with open_layer(1 << 22, file) as (real, path):  # whose process has ended
        assert (real, path) == (file, "")
    os.close(file)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above
