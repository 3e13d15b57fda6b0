"""The capabilities that this process holds, and lets go of: capabilities(7)."""

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
_IN_SYS_ADMIN = {"CAP_PERFMON", "CAP_BPF"}  # until Linux 5.8 they were a part of it, and it still holds them
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _CLEAR_ALL = 24, 38, 47, 4
_VERSION = 0x20080522  # of the header of capset(2), since Linux 2.6.26
_LOW = 0xFFFFFFFF


def missing_capabilities(*names: str) -> list[str]:
    """Those of the capabilities named that are not in effect."""
    effective = _set_of("CapEff")
    held = {name for name, bit in _BITS.items() if effective >> bit & 1}
    if "CAP_SYS_ADMIN" in held:
        held |= _IN_SYS_ADMIN
    return [name for name in names if name not in held]


def keep_capabilities(*names: str) -> None:
    """Let go of all others for good, in this thread and those that it starts from now on; uid 0 gains none back.

    What is kept is in effect. Where a capability named is not held it stays so.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = sum(1 << _BITS[name] for name in names)
    kept = wanted & _set_of("CapPrm")
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for bit in range(64):
        if not wanted >> bit & 1:
            libc.prctl(_PR_CAPBSET_DROP, bit, 0, 0, 0)  # refused without CAP_SETPCAP: then there is less to lose
    libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    low, high = kept & _LOW, kept >> 32
    data = struct.pack("=6I", low, low, 0, high, high, 0)  # effective, permitted, inheritable; twice
    if libc.capset(struct.pack("=Ii", _VERSION, 0), data) != 0:
        raise OSError(ctypes.get_errno(), "capset: the capabilities could not be dropped")


def _set_of(kind: str) -> int:
    """A set of capabilities of the calling thread."""
    lines = Path("/proc/thread-self/status").read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1], 16) for line in lines if line.startswith(f"{kind}:")), 0)


class User(NamedTuple):
    """A user and a group by their ids."""

    uid: int
    gid: int


def calling_user() -> User | None:
    """Whom to be without privileges: who called sudo, else nobody; None where we cannot become anybody else."""
    if missing_capabilities("CAP_CHOWN", "CAP_SETUID", "CAP_SETGID"):
        return None
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if uid.isdigit() and gid.isdigit() and int(uid):
        return User(int(uid), int(gid))
    nobody = pwd.getpwnam("nobody")
    return User(nobody.pw_uid, nobody.pw_gid)


def drop_privileges(user: User | None, run_dir: Path) -> None:
    """Become a user for good; what libraries would import later is imported first. None: stay who we are.

    Raises:
        SettingsError: the change is refused, or that user could not reach the sockets.
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
    end_with_parent()  # the kernel forgot it with the old user
