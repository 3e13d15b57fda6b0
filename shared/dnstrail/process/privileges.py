"""The user of this process, and how it becomes another one."""

from __future__ import annotations

import os
from pathlib import Path

from dnstrail.dns.names import lookup_key
from dnstrail.errors import SettingsError
from dnstrail.kernel.capabilities import keep_capabilities, missing_capabilities
from dnstrail.process.signals import end_with_parent
from dnstrail.users import User, caller_of_sudo, service_user


def calling_user() -> User | None:
    """Return the user that an all-in-one run becomes; None if no change is possible.

    Raises:
        SettingsError: no id is left for this user.
    """
    return caller_of_sudo() or service_user() if may_change_user() else None


def may_change_user() -> bool:
    """Return whether this process can become another user, and give its files away.

    A user namespace can have one user alone: user_namespaces(7).
    """
    users = sum(int(line.split()[2]) for line in Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines())
    return users > 1 and not missing_capabilities("CAP_CHOWN", "CAP_SETUID", "CAP_SETGID")


def share_signals(user: User) -> None:
    """Make a user the real user of this process and of those that it starts; its rights stay.

    That user may then signal them (kill(2)), and the kernel lets its processes end them with their parent.

    Raises:
        OSError: the kernel refused the change.
    """
    os.setresuid(user.uid, -1, -1)


def drop_privileges(user: User | None, run_dir: Path | None = None, *, dnspython: bool = True) -> None:
    """Become a user for good, without any capability; None keeps the present user.

    What is imported late is imported first, since that user may not be able to read it: `dnspython` with all that it
    may need, unless this process does without.

    Raises:
        SettingsError: the change is refused, or that user cannot reach the sockets.
    """
    if user is None:
        return
    if dnspython:
        from dnstrail.dns.whole_message import load_types  # noqa: PLC0415 - as said

        load_types()
        lookup_key("\u00fc.example")  # the codecs of IDNA
    try:
        os.setgroups([])
        os.setgid(user.gid)
        os.setuid(user.uid)
    except OSError as error:  # a user namespace may lack the id
        reason = "only root can" if isinstance(error, PermissionError) else error.strerror
        raise SettingsError(f"cannot become user {user.uid}: {reason}") from error
    keep_capabilities()
    if run_dir is not None and not os.access(run_dir, os.R_OK | os.X_OK):
        raise SettingsError(f"user {user.uid} cannot reach {run_dir}: choose another folder with --run-dir")
    end_with_parent()  # the change of user has reset it
