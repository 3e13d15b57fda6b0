from __future__ import annotations

import os

import pytest

from dnstrail_probe.host.process_root import user_behind
from live.users import USER, program_of

HIDES = "import ctypes; ctypes.CDLL(None).prctl(4, 0); print(input(), flush=True); input()"  # PR_SET_DUMPABLE
SYSTEM_PYTHON = "/usr/bin/python3"
NAMESPACE = ("unshare", "--user", "--map-root-user")
WAYS = {
    "plain": ("cat",),
    "a user namespace": (*NAMESPACE, "cat"),
    "a user namespace in another one": (*NAMESPACE, *NAMESPACE, "cat"),
    "a process that is not dumpable": (SYSTEM_PYTHON, "-c", HIDES),
}


@pytest.mark.parametrize("command", WAYS.values(), ids=WAYS)
def test_a_user_cannot_hide(command):
    """The user behind a process is found, also if the process is root in a user namespace, or not dumpable."""
    with program_of(USER, *command) as pid:
        assert user_behind(pid) == USER


def test_the_user_of_this_process():
    """Without a user namespace of its own a process has its real user."""
    assert user_behind(os.getpid()) == os.getuid()


@pytest.mark.parametrize("pid", [0, 1 << 22])
def test_a_process_that_has_ended_has_no_user(pid):
    """A pid without a process raises OSError."""
    with pytest.raises(OSError, match="No such"):
        user_behind(pid)
