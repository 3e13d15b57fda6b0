"""What processes leave behind on a host: programs, maps and links of BPF, cgroups, mounts, processes and files."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from live.processes import text_of

_KINDS = {"prog": "programs", "map": "maps", "link": "links"}
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
    made = _objects()
    held = _held()
    below = [path for path in cgroup.rglob("*") if path.is_dir()]
    return Remains(
        frozenset(made & _objects() - held),
        frozenset(path.name for path in below),
        frozenset(line.split(" - ")[0].split()[4] for line in text_of(Path("/proc/self/mountinfo")).splitlines()),
        frozenset(filter(None, map(_name_of, _processes([cgroup, *below])))),
        frozenset(str(path) for folder in folders for path in folder.rglob("*")),
    )


def _objects() -> set[tuple[str, int]]:
    """Return the kernel objects of BPF on this host."""
    found = set()
    for kind, name in _KINDS.items():
        shown = subprocess.run(["bpftool", "-j", kind, "show"], capture_output=True, text=True, check=False).stdout
        found |= {(name, one["id"]) for one in json.loads(shown or "[]")}
    return found


def _held() -> set[tuple[str, int]]:
    """Return the kernel objects to which a process has a descriptor."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*/fdinfo"):
        with suppress(OSError):  # the process has ended
            for file in folder.iterdir():
                found |= {(_KINDS[kind], int(number)) for kind, number in _HELD.findall(text_of(file))}
    return found


def _processes(cgroups: Iterable[Path]) -> set[int]:
    return {int(pid) for cgroup in cgroups for pid in text_of(cgroup / "cgroup.procs").split()}


def _name_of(process: int) -> str:
    """Return the number and the command line of a process; "" if it has ended."""
    line = text_of(Path(f"/proc/{process}/cmdline")).replace("\0", " ").strip()
    return f"{process} {line}" if line else ""
