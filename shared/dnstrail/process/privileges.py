"""The user and the capabilities of this process: credentials(7), capabilities(7)."""

from __future__ import annotations

import ctypes
import os
import pwd
import struct
from pathlib import Path
from typing import NamedTuple

import dns.rdata

from dnstrail.dns.names import lookup_key
from dnstrail.errors import SettingsError
from dnstrail.process.signals import end_with_parent

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
_IN_SYS_ADMIN = {"CAP_PERFMON", "CAP_BPF"}  # CAP_SYS_ADMIN still includes them (split off in Linux 5.8)
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _CLEAR_ALL = 24, 38, 47, 4
_VERSION = 0x20080522  # of the header of capset(2), since Linux 2.6.26
_LOW = 0xFFFFFFFF


def missing_capabilities(*names: str) -> list[str]:
    """Return the named capabilities that are not effective."""
    effective = _set_of("CapEff")
    held = {name for name, bit in _BITS.items() if effective >> bit & 1}
    if "CAP_SYS_ADMIN" in held:
        held |= _IN_SYS_ADMIN
    return [name for name in names if name not in held]


def keep_capabilities(*names: str) -> None:
    """Drop all other capabilities for good; uid 0 cannot regain them.

    This holds for the calling thread and for threads that it starts later. Named capabilities that the process holds
    become effective.

    Raises:
        OSError: the kernel refuses the change.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = sum(1 << _BITS[name] for name in names)
    kept = wanted & _set_of("CapPrm")
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for bit in range(64):
        if not wanted >> bit & 1:
            libc.prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0)  # refused without CAP_SETPCAP, which bounds less anyway
    libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    low, high = kept & _LOW, kept >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)  # effective, permitted, inheritable; twice
    if libc.capset(struct.pack("=Ii", _VERSION, 0), data) != 0:
        raise OSError(ctypes.get_errno(), "capset: the capabilities could not be dropped")


def _set_of(kind: str) -> int:
    """Return one capability set of the calling thread as a bit mask; `kind` is its name in /proc (CapEff, CapPrm)."""
    lines = Path("/proc/thread-self/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith(f"{kind}:")), 0)


class User(NamedTuple):
    """A user id and a group id."""

    uid: int
    gid: int


def calling_user() -> User | None:
    """Return the user for workers without privileges: the caller of sudo, else nobody.

    Return None if this process cannot change its user.
    """
    if missing_capabilities("CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"):
        return None
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if uid.isdigit() and gid.isdigit() and int(uid):
        return User(int(uid), int(gid))
    nobody = pwd.getpwnam("nobody")
    return User(nobody.pw_uid, nobody.pw_gid)


def drop_privileges(user: User | None, run_dir: Path) -> None:
    """Become a user for good; None keeps the present user.

    Libraries import some modules only when they are first needed. They are loaded before the change, since the new
    user may not be able to read them.

    Raises:
        SettingsError: the kernel refuses the change, or the new user could not reach the sockets.
    """
    if user is None:
        return
    dns.rdata.load_all_types()  # type: ignore[no-untyped-call] # dnspython has no types for it
    lookup_key("\u00fc.example")  # the codecs of IDNA
    try:
        os.setgroups([])
        os.setgid(user.gid)
        os.setuid(user.uid)
    except PermissionError as error:
        raise SettingsError(f"cannot become user {user.uid}: only root can") from error
    if not os.access(run_dir, os.R_OK | os.X_OK):
        raise SettingsError(f"user {user.uid} cannot reach {run_dir}: choose another folder with --run-dir")
    end_with_parent()  # the change of the user cleared it
