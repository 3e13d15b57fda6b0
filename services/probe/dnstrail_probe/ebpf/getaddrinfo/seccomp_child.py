"""A process that calls getaddrinfo once under a seccomp filter: the subject of `seccomp_trial.py`."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

from dnstrail.kernel.libc import call

FIRST, LAST = 335, 336  # uretprobe and uprobe: the system calls by which newer kernels return from a probe (x86)
_LOAD, _AT_LEAST, _ABOVE, _RETURN = 0x20, 0x35, 0x25, 0x06  # linux/bpf_common.h
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2


def filter_system_calls(first: int = FIRST, last: int = LAST) -> None:
    """Let the kernel refuse the system calls of these numbers to this process, for good.

    Raises:
        OSError: the kernel has no seccomp filters.
    """
    lines = (
        (_LOAD, 0, 0, 0),  # the number of the call
        (_AT_LEAST, 0, 2, first),
        (_ABOVE, 1, 0, last),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    )
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    head = struct.pack("@HP", len(lines), ctypes.addressof(program))
    call("prctl", _PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(head), 0, 0)


def main() -> None:
    """Install the filter, write a line, wait for a line, and call getaddrinfo; exit with 0 if the call returned."""
    try:
        filter_system_calls()
    except OSError as error:
        sys.exit(f"no filter: {error}")
    print("ready", flush=True)  # noqa: T201 - to the process that waits for it
    sys.stdin.readline()
    socket.getaddrinfo(b"127.0.0.1", None)  # bytes: a text would load the codec of IDNA


if __name__ == "__main__":
    main()
