"""The start of the command in its own process: cgroup, signals, user, environment."""

from __future__ import annotations

import errno
import os
import pwd
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from dnstrail.kernel.capabilities import refuse_new_privileges
from dnstrail.process.terminal import escape_unprintable
from dnstrail.users import User
from dnstrail_run.cgroup import Cgroup
from dnstrail_run.domain import enter_domain

NOT_STARTED = 126  #: exit: the command of `dnstrail run` cannot be run, as of a shell
NOT_FOUND = 127  #: exit: the command of `dnstrail run` was not found
_OF_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}  # signals that the interpreter ignores
_OF_SUDO = ("SUDO_USER", "SUDO_UID", "SUDO_GID", "SUDO_COMMAND")


def exec_command(
    command: Sequence[str],
    user: User | None,
    cgroup: Cgroup,
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
