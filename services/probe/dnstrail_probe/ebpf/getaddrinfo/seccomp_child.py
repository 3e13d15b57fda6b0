"""A process under a seccomp filter that calls getaddrinfo once: whether it survives being watched (`trial.py`)."""

from __future__ import annotations

import ctypes
import struct
import sys

FIRST, LAST = 335, 336  # the system calls by which the kernel may come back from what it watches (x86: uretprobe)
_LOAD, _AT_LEAST, _ABOVE, _RETURN = 0x20, 0x35, 0x25, 0x06  # linux/bpf_common.h
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2


def filter_system_calls(first: int = FIRST, last: int = LAST) -> bool:
    """Let the kernel refuse the system calls of these numbers to this process for good; whether it will."""
    lines = (
        (_LOAD, 0, 0, 0),  # the number of the call
        (_AT_LEAST, 0, 2, first),
        (_ABOVE, 1, 0, last),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    )
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    head = struct.pack("@HP", len(lines), ctypes.addressof(program))
    return int(libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(head), 0, 0)) == 0


def main() -> None:
    """Say a word when the filter is there; call, once told to; exit with 0 if that came to its end."""
    if not filter_system_calls():
        sys.exit("no filter")
    print("ready", flush=True)  # noqa: T201 - to the process that waits for it
    sys.stdin.readline()
    found = ctypes.c_void_p()
    sys.exit(ctypes.CDLL(None).getaddrinfo(b"127.0.0.1", None, None, ctypes.byref(found)))


if __name__ == "__main__":
    main()
