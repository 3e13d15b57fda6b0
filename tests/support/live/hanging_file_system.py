"""A FUSE file system that takes every request and never replies (fuse(4))."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2
_INIT_REPLY = struct.Struct("=IiQ IIIIHHII 8x 28x")  # header, then struct fuse_init_out


@contextmanager
def hanging_file_system(folder: Path) -> Iterator[int]:
    """Mount the file system at a folder; yield the descriptor from which its requests can be read."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    try:
        if _LIBC.mount(b"fuse", os.fsencode(folder), b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), "mount")
        unique = struct.unpack_from("=IIQ", os.read(device, 1 << 17))[2]
        os.write(device, _INIT_REPLY.pack(_INIT_REPLY.size, 0, unique, 7, 31, 4096, 0, 0, 0, 4096, 1))
        yield device
    finally:
        _LIBC.umount2(os.fsencode(folder), _MNT_DETACH)
        os.close(device)  # aborts all requests
