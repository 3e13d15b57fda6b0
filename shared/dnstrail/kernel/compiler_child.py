"""A process that compiles the text on its standard input: the child of `objects.py`.

bcc also makes the maps. They end with this process.
"""

from __future__ import annotations

import ctypes
import re
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.bpf import MapShape
from dnstrail.kernel.compiler import compile_text, load_bcc
from dnstrail.kernel.objects import BpfObject, with_maps

_FAILED = 1
_FIELD = re.compile(r"^(\w+):\t(\w+)$", re.MULTILINE)
_FIELDS = ("map_type", "key_size", "value_size", "max_entries", "map_flags")


def main() -> int:
    """Write the object (msgpack), or the reason why there is none; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # of the terminal: it ends parent and child
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the parent has ended
    text = sys.stdin.buffer.read().decode()
    try:
        made = _object(text)
    except SourceUnavailable as error:
        sys.stdout.write(": ".join(filter(None, (error.reason, error.remedy))))
        return _FAILED
    with open(sys.stdout.fileno(), "wb", closefd=False) as output:  # also with PYTHONUNBUFFERED it writes all bytes
        output.write(msgspec.msgpack.encode(made))
    return 0


def _object(text: str) -> BpfObject:
    bcc = load_bcc()
    try:
        bpf = compile_text(bcc, text)
    except Exception as error:  # bcc raises bare Exceptions
        raise SourceUnavailable("ebpf", f"the programs do not compile ({error})") from error
    descriptors = {name: int(bcc.lib.bpf_table_fd(bpf.module, name)) for name in _names_of_maps(bcc.lib, bpf.module)}
    places = {descriptor: place for place, descriptor in enumerate(descriptors.values())}
    functions = [bcc.lib.bpf_function_name(bpf.module, at) for at in range(bcc.lib.bpf_num_functions(bpf.module))]
    return BpfObject(
        {name.decode(): _shape(descriptor) for name, descriptor in descriptors.items()},
        {name.decode(): with_maps(bpf.dump_func(name), places) for name in functions},
    )


def _names_of_maps(library: Any, module: int) -> list[bytes]:
    library.bpf_num_tables.argtypes, library.bpf_num_tables.restype = [ctypes.c_void_p], ctypes.c_size_t
    library.bpf_table_name.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    library.bpf_table_name.restype = ctypes.c_char_p
    return [library.bpf_table_name(module, at) for at in range(library.bpf_num_tables(module))]


def _shape(descriptor: int) -> MapShape:
    """Return the shape of a map, as the kernel states it."""
    fields = dict(_FIELD.findall(Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="utf-8")))
    return MapShape(*(int(fields[name], 0) for name in _FIELDS))


if __name__ == "__main__":
    sys.exit(main())
