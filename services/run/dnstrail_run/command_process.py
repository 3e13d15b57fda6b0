"""The start of the command in its own process: cgroup, domain, signals, user, environment, sockets."""

from __future__ import annotations

import errno
import os
import pwd
import signal
import socket
import stat
import struct
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from dnstrail.errors import SettingsError
from dnstrail.kernel.capabilities import refuse_new_privileges
from dnstrail.kernel.libc import system_call
from dnstrail.process.terminal import escape_unprintable
from dnstrail.users import User
from dnstrail_run.cgroup import CommandCgroup

_DESCRIPTORS = Path("/proc/self/fd")
_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # system calls
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_SCOPES = 6  # the version of Landlock that has scopes: Linux 6.12
_ABSTRACT_UNIX_SOCKET = 1  # LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
NOT_STARTED = 126  #: exit: the command of `dnstrail run` cannot be run, as of a shell
NOT_FOUND = 127  #: exit: the command of `dnstrail run` was not found
_OF_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}  # signals that the interpreter ignores
_OF_SUDO = ("SUDO_USER", "SUDO_UID", "SUDO_GID", "SUDO_COMMAND")


def exec_command(
    command: Sequence[str],
    user: User | None,
    cgroup: CommandCgroup,
    ignored: set[signal.Signals],
    blocked: set[signal.Signals] | set[int],
    *,
    domain: bool,
    new_privileges: bool,
) -> NoReturn:
    """Become the command: in its cgroup, as the user, with the signals that the launcher began with.

    With `domain` it is in a Landlock domain of its own. Without `new_privileges` no program gives it rights that the
    user lacks.
    """
    try:
        cgroup.add(os.getpid())
        for number in signal.Signals:
            if signal.getsignal(number) not in (signal.SIG_DFL, None) and number not in ignored:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        environment = dict(os.environ)
        if domain:
            enter_domain()
        if user is not None:
            become(user)
            environment = environment_of(user, environment)
        if not new_privileges:
            refuse_new_privileges()
        if not command[0]:  # which Python refuses in another way
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        os.execvpe(command[0], [*command], environment)  # noqa: S606 - the command of the user
    except OSError as error:
        with suppress(OSError):
            sys.stderr.write(f"dnstrail: {escape_unprintable(command[0])}: {error.strerror}\n")
            sys.stderr.flush()
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_STARTED)


def ignored_signals() -> set[signal.Signals]:
    """Return the signals that the starter of this process made it ignore (nohup, a job in the background)."""
    return {number for number in signal.Signals if signal.getsignal(number) == signal.SIG_IGN} - _OF_PYTHON


def become(user: User) -> None:
    """Become a user with its own groups."""
    os.setgroups(groups_of(user))
    os.setgid(user.gid)
    os.setuid(user.uid)


def groups_of(user: User) -> list[int]:
    """Return the groups of a user."""
    try:
        return os.getgrouplist(pwd.getpwuid(user.uid).pw_name, user.gid)
    except KeyError:  # an id without an entry
        return [user.gid]


def environment_of(user: User, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a user that sudo has replaced by the environment of root."""
    own = {name: value for name, value in environment.items() if name not in _OF_SUDO}
    try:
        entry = pwd.getpwuid(user.uid)
    except KeyError:
        return own
    return {**own, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "HOME": entry.pw_dir, "SHELL": entry.pw_shell}


def has_domains() -> bool:
    """Return whether this kernel has domains that handle nothing but a scope."""
    try:
        return system_call("landlock_create_ruleset", _CREATE_RULESET, None, 0, _VERSION) >= _SCOPES
    except OSError:  # not compiled in, or not enabled
        return False


def enter_domain() -> None:
    """Put this thread, and all that it starts, into a Landlock domain of its own (landlock(7)).

    A process in it opens neither memory nor descriptors of a process outside (ptrace, pidfd_getfd, /proc/PID/fd,
    /proc/PID/root), and connects to no abstract Unix socket of one.

    Raises:
        OSError: the kernel refused it.
    """
    attributes = struct.pack("=QQQ", 0, 0, _ABSTRACT_UNIX_SOCKET)
    ruleset = system_call("landlock_create_ruleset", _CREATE_RULESET, attributes, len(attributes), 0)
    try:
        system_call("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def refuse_inherited_sockets() -> None:
    """Refuse to hand on a socket of another family than Unix: its cgroup is another one, so no list applies to it.

    Raises:
        SettingsError: there is one; the text names its descriptor.
    """
    for name in sorted(int(each.name) for each in _DESCRIPTORS.iterdir()):
        with suppress(OSError):  # the descriptor of the folder, which is closed by now
            if _is_handed_on(name):
                raise SettingsError(
                    f"--enforce: descriptor {name} is an open socket, to which no list applies: close it ({name}>&-)"
                )


def _is_handed_on(descriptor: int) -> bool:
    if not os.get_inheritable(descriptor) or not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as inherited:
        return inherited.family != socket.AF_UNIX
