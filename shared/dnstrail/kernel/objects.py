"""Compiled eBPF programs and the shapes of their maps: made by a process of their own, and loaded into the kernel.

The compiler (LLVM) would stay in the memory of a process that has used it.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress

import msgspec

from dnstrail.errors import SourceUnavailable
from dnstrail.kernel.bpf import AttachType, MapShape, ProgramType, attach_raw_tracepoint, create_map, load_program

COMPILER = (sys.executable, "-P", "-m", "dnstrail.kernel.compiler_child")
_LONGEST_REASON = 500  # characters of an error of the compiler
_LOAD_WIDE = 0x18  # BPF_LD | BPF_DW | BPF_IMM: loads 64 bits, or the address of a map
_MAP_FD = 1  # BPF_PSEUDO_MAP_FD, its source register then
_INSTRUCTION = struct.Struct("=BBhi")  # opcode, registers (source in the upper half), offset, immediate value


class BpfObject(msgspec.Struct, frozen=True):
    """Programs and the shapes of their maps, by name; an instruction names a map by its place among the names."""

    maps: dict[str, MapShape]
    programs: dict[str, bytes]


class LoadedObject:
    """The maps and programs of an object in the kernel, as descriptors, which `close` closes.

    Raises:
        OSError: the kernel refused a map.
    """

    def __init__(self, compiled: BpfObject) -> None:
        self.maps: dict[str, int] = {}
        self.programs: dict[str, int] = {}
        self.links: list[int] = []
        self._code = compiled.programs
        try:
            for name, shape in compiled.maps.items():
                self.maps[name] = create_map(name, shape)
        except BaseException:
            self.close()
            raise

    def load(self, name: str, kind: ProgramType, hook: AttachType | None = None) -> int:
        """Load a program; return its descriptor.

        Raises:
            OSError: the kernel refused it.
        """
        maps = dict(enumerate(self.maps.values()))
        self.programs[name] = load_program(name, with_maps(self._code[name], maps), kind, hook)
        return self.programs[name]

    def attach_raw_tracepoint(self, name: str, tracepoint: str) -> None:
        """Load a program, and attach it to a raw tracepoint.

        Raises:
            OSError: the kernel refused it.
        """
        self.links.append(attach_raw_tracepoint(self.load(name, ProgramType.RAW_TRACEPOINT), tracepoint))

    def close(self) -> None:
        """Detach the programs, and give up programs and maps. Further calls have no effect."""
        for descriptor in (*self.links, *self.programs.values(), *self.maps.values()):
            os.close(descriptor)
        self.links.clear()
        self.programs.clear()
        self.maps.clear()


def compile_object(text: str, compiler: tuple[str, ...] = COMPILER) -> BpfObject:
    """Compile a text in a process of its own.

    Raises:
        SourceUnavailable: bcc is not installed, or it does not compile the text.
    """
    done = subprocess.run(compiler, input=text.encode(), stdout=subprocess.PIPE, check=False)  # noqa: S603 - our own
    if not done.returncode:
        with suppress(msgspec.MsgspecError):
            return msgspec.msgpack.decode(done.stdout, type=BpfObject)
    reason = done.stdout.decode(errors="replace")[:_LONGEST_REASON] if done.returncode > 0 else ""
    raise SourceUnavailable("ebpf", reason or f"the compiler ended with {done.returncode}")


def with_maps(code: bytes, names: Mapping[int, int]) -> bytes:
    """Return a program with other names of its maps: descriptors in place of places, or the reverse.

    Raises:
        OSError: a name is unknown.
    """
    changed = bytearray(code)
    for at in _loads_of_maps(code):
        opcode, registers, offset, name = _INSTRUCTION.unpack_from(code, at)
        if name not in names:
            raise OSError(f"a program uses an unknown map: {name}")
        _INSTRUCTION.pack_into(changed, at, opcode, registers, offset, names[name])
    return bytes(changed)


def _loads_of_maps(code: bytes) -> Iterator[int]:
    """Yield where a program loads the address of a map. A load takes two instructions; the second has the opcode 0."""
    opcodes = code[:: _INSTRUCTION.size]
    place = opcodes.find(_LOAD_WIDE)
    while place >= 0:
        at = place * _INSTRUCTION.size
        if code[at + 1] >> 4 == _MAP_FD:
            yield at
        place = opcodes.find(_LOAD_WIDE, place + 1)
