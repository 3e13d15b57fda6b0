"""The rights of running processes, as the kernel reports them for each of their threads."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from dnstrail.kernel.capabilities import _BITS
from live.processes import children_of, command_line, text_of

WORKERS = ("probe", "cache", "signatures")


class Rights(NamedTuple):
    """The ids, groups and capabilities of one thread. Invariant: `capabilities` contains all that it can get back."""

    uids: frozenset[int]
    gids: frozenset[int]
    groups: frozenset[int]
    capabilities: frozenset[str]
    no_new_privileges: bool

    @property
    def none(self) -> bool:
        """True without root, capabilities, groups beside its own, and a way to get any of them."""
        given_up = self.no_new_privileges and not self.capabilities and self.groups <= self.gids
        return given_up and 0 not in self.uids | self.gids


def rights_of(process: int) -> set[Rights]:
    """Return the rights of all threads of a process."""
    statuses = [text_of(path) for path in Path(f"/proc/{process}/task").glob("*/status")]
    return {_rights(dict(re.findall(r"^(\w+):\t(.*)$", status, re.MULTILINE))) for status in statuses if status}


def workers_of(run: int) -> dict[str, int]:
    """Return the processes of an all-in-one run: itself as "dnstrail", and its workers by name."""
    lines = {child: command_line(child) for child in children_of(run)}
    found = {name: child for name in WORKERS for child, line in lines.items() if f"dnstrail_{name}\0" in line}
    return {"dnstrail": run, **found}


def show(named: Mapping[str, Iterable[Rights]]) -> None:
    """Print the rights of processes: one line for each set of rights."""
    for name, found in named.items():
        for rights in found:
            held = ",".join(sorted(rights.capabilities)) or "none"
            ids = f"Uid {sorted(rights.uids)} Gid {sorted(rights.gids)} Groups {sorted(rights.groups)}"
            sys.stdout.write(f"{name}: {ids} capabilities {held} NoNewPrivs {int(rights.no_new_privileges)}\n")


def _rights(status: Mapping[str, str]) -> Rights:
    held = 0
    for kind in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        held |= int(status[kind], 16)
    names = {bit: name for name, bit in _BITS.items()}
    return Rights(
        frozenset(map(int, status["Uid"].split())),
        frozenset(map(int, status["Gid"].split())),
        frozenset(map(int, status["Groups"].split())),
        frozenset(names.get(bit, str(bit)) for bit in range(64) if held >> bit & 1),
        status["NoNewPrivs"] == "1",
    )
