"""A command whose processes cannot be stopped: one waits in the kernel for a page that never comes (userfaultfd(2))."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import socket
import struct
import sys
import threading

_USERFAULTFD = {"x86_64": 323, "aarch64": 282}[os.uname().machine]
_VERSION, _API, _REGISTER, _MISSING = 0xAA, 0xC018AA3F, 0xC020AA00, 1
_PAGE = 4096


def wait_for_ever() -> mmap.mmap:
    """Let a thread wait in a read of one byte, as long as the memory that is returned exists."""
    libc = ctypes.CDLL(None)
    faults = libc.syscall(_USERFAULTFD, os.O_CLOEXEC)
    fcntl.ioctl(faults, _API, struct.pack("3Q", _VERSION, 0, 0))
    memory = mmap.mmap(-1, _PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(faults, _REGISTER, struct.pack("4Q", address, _PAGE, _MISSING, 0))
    end, other = os.pipe()
    os.write(other, b"x")
    threading.Thread(target=lambda: libc.read(end, ctypes.c_void_p(address), 1), daemon=True).start()
    return memory


def main(name: str) -> None:
    """Ask for a name twice, and end at once with what became of it."""
    memory = wait_for_ever()
    for _ in range(2):
        try:
            socket.getaddrinfo(name, 80, socket.AF_INET)
        except OSError as error:
            print("refused", error, flush=True)
    os._exit(len(memory) - _PAGE)


if __name__ == "__main__":
    main(sys.argv[1])
