from __future__ import annotations

import errno
import os

import pytest

from dnstrail.kernel.libc import call, system_call

NO_SUCH_CALL = 9999


def test_a_call_returns_its_result():
    """A function that succeeds returns its result."""
    assert call("getpid") == os.getpid()


def test_a_failure_names_its_function():
    """A function that fails raises OSError with its errno and its name."""
    with pytest.raises(OSError, match=r"^\[Errno 9\] close: Bad file descriptor$") as failed:
        call("close", -1)
    assert failed.value.errno == errno.EBADF


def test_a_failed_system_call_has_the_given_name():
    """A system call that fails raises OSError with its errno and the given name."""
    with pytest.raises(OSError, match="unknown: ") as failed:
        system_call("unknown", NO_SUCH_CALL)
    assert failed.value.errno == errno.ENOSYS


def test_a_function_that_does_not_exist():
    """A function that the C library lacks raises AttributeError."""
    with pytest.raises(AttributeError):
        call("no_such_function")
