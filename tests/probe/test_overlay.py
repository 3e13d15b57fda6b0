from __future__ import annotations

import os

import pytest

from dnstrail_probe.overlay import layers, open_layer

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
    """The layers of what is mounted at / last, if it is an overlay, from the top, with their escapes undone."""
    assert layers(mounts) == found


def test_a_file_of_no_overlay_is_itself(tmp_path):
    """Where there is no overlay the file itself is given, and nothing stays open."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted while nothing of it is open
    file = os.open(tmp_path, os.O_RDONLY)
    with open_layer(os.getpid(), file) as (real, path):
        assert (real, path) == (file, "")
    with open_layer(1 << 22, file) as (real, path):  # whose process has ended
        assert (real, path) == (file, "")
    os.close(file)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
