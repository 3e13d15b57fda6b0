"""Calls of the C library that Python has no function for; every failure is an OSError."""

from __future__ import annotations

import ctypes
import os
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: Any) -> int:
    """Call a function of the C library that returns -1 on failure; return its result.

    Raises:
        OSError: the function failed; the text begins with its name.
    """
    return _checked(name, _LIBC[name](*args))


def system_call(name: str, number: int, *args: Any) -> int:
    """Make a system call that the C library has no function for; return its result.

    Raises:
        OSError: the system call failed; the text begins with `name`.
    """
    return _checked(name, _LIBC.syscall(number, *args))


def _checked(name: str, result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result
