"""The capabilities and the user of this process, and how it drops them (capabilities(7))."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from pathlib import Path

import dns.rdata

from dnstrail.dns.names import lookup_key
from dnstrail.errors import SettingsError
from dnstrail.process.libc import call
from dnstrail.process.signals import end_with_parent
from dnstrail.users import User, caller_of_sudo, service_user

_BITS = {
    "CAP_CHOWN": 0,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
_IN_SYS_ADMIN = {"CAP_PERFMON", "CAP_BPF"}  # CAP_SYS_ADMIN implies them: until Linux 5.8 they were a part of it
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _RAISE, _CLEAR_ALL = 24, 38, 47, 2, 4
_VERSION = 0x20080522  # of the header of capset(2), since Linux 2.6.26
_LOW = 0xFFFFFFFF


def missing_capabilities(*names: str) -> list[str]:
    """Return which of these capabilities are not in effect."""
    effective = _set_of("CapEff")
    held = {name for name, bit in _BITS.items() if effective >> bit & 1}
    if "CAP_SYS_ADMIN" in held:
        held |= _IN_SYS_ADMIN
    return [name for name in names if name not in held]


def keep_capabilities(*names: str, inherited: bool = False) -> None:
    """Drop all other capabilities for good, in this thread and in those that it starts later; uid 0 regains none.

    The capabilities named are in effect afterwards, as far as this thread holds them. With `inherited`, a program that
    this thread executes has them as well, whatever its user.

    Raises:
        OSError: the kernel refused the change.
    """
    wanted = sum(1 << _BITS[name] for name in names)
    kept = wanted & _set_of("CapPrm")
    refuse_new_privileges()
    for bit in range(64):
        if not wanted >> bit & 1:
            with suppress(OSError):  # refused without CAP_SETPCAP, and for a bit that this kernel lacks
                call("prctl", _PR_CAPBSET_DROP, bit, 0, 0, 0)
    call("prctl", _PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    low, high = kept & _LOW, kept >> 32
    data = (low, low, low * inherited, high, high, high * inherited)  # effective, permitted, inheritable; twice
    call("capset", struct.pack("=Ii", _VERSION, 0), struct.pack("=6I", *data))
    for name in names if inherited else ():
        with suppress(OSError):  # this thread does not hold it
            call("prctl", _PR_CAP_AMBIENT, _RAISE, _BITS[name], 0, 0)


def refuse_new_privileges() -> None:
    """Take no rights from the files of programs from now on (set-id, capabilities), nor does what this process starts.

    Raises:
        OSError: the kernel refused the change.
    """
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _set_of(kind: str) -> int:
    """Return a set of capabilities of the calling thread."""
    lines = Path("/proc/thread-self/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith(f"{kind}:")), 0)


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


def drop_privileges(user: User | None, run_dir: Path | None = None) -> None:
    """Become a user for good, without any capability; None keeps the present user.

    Modules that libraries import late are imported first, since that user may not be able to read them.

    Raises:
        SettingsError: the change is refused, or that user cannot reach the sockets.
    """
    if user is None:
        return
    dns.rdata.load_all_types()  # type: ignore[no-untyped-call] # dnspython has no types for it
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
