"""The capabilities of a thread, and how it drops them (capabilities(7))."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

from dnstrail.kernel.libc import call

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
    wanted, held = sum(1 << _BITS[name] for name in names), _set_of("CapPrm")
    kept = wanted & held
    refuse_new_privileges()
    for bit in range(64):
        if not wanted >> bit & 1:
            with suppress(OSError):  # refused without CAP_SETPCAP, and for a bit that this kernel lacks
                call("prctl", _PR_CAPBSET_DROP, bit, 0, 0, 0)
    call("prctl", _PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    low, high = kept & _LOW, kept >> 32
    data = (low, low, low * inherited, high, high, high * inherited)  # effective, permitted, inheritable; twice
    if held:  # without any there is nothing to drop, and the filter of a unit refuses the call
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
