"""The Landlock domain of a command (landlock(7)): processes outside of it are out of reach for ptrace(2) and alike.

A process in the domain opens neither the memory nor the descriptors of a process outside (ptrace, pidfd_getfd,
/proc/PID/fd, /proc/PID/root), and connects to no abstract Unix socket of one.
"""

from __future__ import annotations

import os
import struct

from dnstrail.kernel.libc import system_call

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # system calls
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_SCOPES = 6  # the version of Landlock that has scopes: Linux 6.12
_ABSTRACT_UNIX_SOCKET = 1  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET


def has_domains() -> bool:
    """Return whether this kernel has domains that handle nothing but a scope."""
    try:
        return system_call("landlock_create_ruleset", _CREATE_RULESET, None, 0, _VERSION) >= _SCOPES
    except OSError:  # not compiled in, or not enabled
        return False


def enter_domain() -> None:
    """Put this thread, and all that it starts, into a domain of its own.

    Raises:
        OSError: the kernel refused it.
    """
    attributes = struct.pack("=QQQ", 0, 0, _ABSTRACT_UNIX_SOCKET)
    ruleset = system_call("landlock_create_ruleset", _CREATE_RULESET, attributes, len(attributes), 0)
    try:
        system_call("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
