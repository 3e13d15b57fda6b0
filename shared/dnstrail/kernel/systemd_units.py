"""The systemd unit and slice of a cgroup, read from its path (systemd's cgroup-util.c; CONTROL_GROUP_INTERFACE.md)."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import NamedTuple

from dnstrail.captured import Process
from dnstrail.kernel.cgroups import folders_above

_NAME = r"[A-Za-z0-9:_.\\@-]+"  # VALID_CHARS of systemd; `\x2d` is a part of the name
_SLICE = rf"{_NAME}\.slice"
_ENDINGS = ("service", "scope", "socket", "mount", "swap")  # of the units that have processes
_UNIT = re.compile(rf"(?P<slices>(?:/{_SLICE})*)/_?(?P<unit>{_NAME}\.(?:{'|'.join(_ENDINGS)}))(?=/|\Z)")
_SLICES = re.compile(rf"(?:/{_SLICE})+(?=/|\Z)")
_MANAGER = re.compile(r"user@(\d{1,10})\.service", re.ASCII)  # the systemd of a user, who names everything below
_ROOT_SLICE = "-.slice"
_SUFFIXES = (*(f".{ending}" for ending in _ENDINGS), ".slice")


class Unit(NamedTuple):
    """The unit of a cgroup, and its slice; "" if there is none.

    Those of a user's systemd begin with the user: `alice/web.service`, `alice/app.slice`. All others are root's.
    """

    name: str = ""
    slice: str = ""


def unit_of(path: str, is_roots: Callable[[str], bool], user_name: Callable[[int], str]) -> Unit:
    """Return the unit and slice of a cgroup, given by its path below the root of the hierarchy.

    `is_roots` returns true for a folder in which only root can make cgroups. A unit of root counts only if all folders
    above its own are such folders: otherwise a user can have chosen its name. `user_name` returns a user by id.
    """
    found = _UNIT.match(path)
    chosen = found or _SLICES.match(path)
    if chosen is None or not all(map(is_roots, folders_above(chosen[0]))):
        return Unit()
    if found is None:
        return Unit("", _innermost(chosen[0]))
    unit = Unit(found["unit"], _innermost(found["slices"]))
    manager = _MANAGER.fullmatch(unit.name)
    below = _UNIT.match(path, found.end()) if manager else None
    if manager is None or below is None:
        return unit
    user = user_name(int(manager[1]))
    return Unit(f"{user}/{below['unit']}", f"{user}/{_innermost(below['slices'])}")


def is_in_unit(process: Process, given: str) -> bool:
    """Return whether a process is in a unit or slice that is given by a name, or by a pattern of a shell.

    Names of root fit alone, unless the pattern contains a user and a slash.
    """
    return fits_unit(process.unit, process.slice, given)


def fits_unit(unit: str, slice_: str, given: str) -> bool:
    """Return whether a unit or its slice fits, as `is_in_unit` does."""
    user = "/" in given
    return any(name and ("/" in name) == user and fnmatchcase(name, given) for name in (unit, slice_))


def can_be_unit(given: str) -> bool:
    """Return whether some unit or slice can fit a name or a pattern."""
    return given.endswith(_SUFFIXES) or given.endswith(("*", "?", "]"))


def _innermost(slices: str) -> str:
    return slices.rpartition("/")[2] or _ROOT_SLICE
