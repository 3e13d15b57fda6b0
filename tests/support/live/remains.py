"""What processes leave behind on a host: programs, maps and links of BPF, cgroups, mounts, processes and files."""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dnstrail.kernel.bpf import _SIZE, _call
from live.processes import text_of

KINDS = {"prog": "programs", "map": "maps", "link": "links"}
_NEXT = {"programs": 11, "maps": 12, "links": 31}  # the commands of bpf(2) that return the next id
_NEXT_ID = struct.Struct("=2I")
_HELD = re.compile(r"^(prog|map|link)_id:\s+(\d+)$", re.MULTILINE)


class Remains(NamedTuple):
    """The kernel objects that no process holds, by kind and id, and the names of everything else."""

    objects: frozenset[tuple[str, int]]
    cgroups: frozenset[str]
    mounts: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]

    def beyond(self, before: Remains) -> dict[str, list[str]]:
        """Return what is there and was not before: a kind, and its objects."""
        found = {
            field: sorted(map(str, now - then)) for field, now, then in zip(self._fields, self, before, strict=True)
        }
        return {field: names for field, names in found.items() if names}


def remains(cgroup: Path, folders: Iterable[Path]) -> Remains:
    """Return what is there now: the kernel objects of the whole host, the cgroups and processes below a cgroup, files.

    An object that a living process holds is none that is left. A link of BPF ends with its last holder.
    """
    made = objects()
    held = _held()
    below = [Path(folder) for folder, _, _ in os.walk(cgroup)][1:]  # without those that end meanwhile
    return Remains(
        frozenset(made & objects() - held),
        frozenset(path.name for path in below),
        frozenset(line.split(" - ")[0].split()[4] for line in text_of(Path("/proc/self/mountinfo")).splitlines()),
        frozenset(filter(None, map(_name_of, _processes([cgroup, *below])))),
        frozenset(
            f"{place}/{name}"
            for folder in folders
            for place, inner, files in os.walk(folder)
            for name in (*inner, *files)
        ),
    )


def objects() -> set[tuple[str, int]]:
    """Return the kernel objects of BPF on this host.

    None is opened, as bpftool does: a program array that is closed twice at its end is never freed (Linux 6.18).
    """
    return {(name, number) for name, command in _NEXT.items() for number in _ids(command)}


def _ids(command: int) -> Iterator[int]:
    """Yield the ids of the objects of a kind, by BPF_PROG_GET_NEXT_ID or its like."""
    number = 0
    with suppress(FileNotFoundError):  # there are no more
        while True:
            attributes = ctypes.create_string_buffer(_NEXT_ID.pack(number, 0), _SIZE)
            _call("BPF_OBJ_GET_NEXT_ID", command, attributes)
            _, number = _NEXT_ID.unpack_from(attributes)
            yield number


def _held() -> set[tuple[str, int]]:
    """Return the kernel objects to which a process has a descriptor."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*/fdinfo"):
        with suppress(OSError):  # the process has ended
            for file in folder.iterdir():
                found |= {(KINDS[kind], int(number)) for kind, number in _HELD.findall(text_of(file))}
    return found


def _processes(cgroups: Iterable[Path]) -> set[int]:
    return {int(pid) for cgroup in cgroups for pid in text_of(cgroup / "cgroup.procs").split()}


def _name_of(process: int) -> str:
    """Return the number and the command line of a process; "" if it has ended."""
    line = text_of(Path(f"/proc/{process}/cmdline")).replace("\0", " ").strip()
    return f"{process} {line}" if line else ""
