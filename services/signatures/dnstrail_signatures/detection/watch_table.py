"""The names that rules watch: read from lists, and found in one table for all rules."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import reduce
from io import BytesIO, TextIOWrapper
from itertools import chain
from operator import or_
from pathlib import Path

from dnstrail.dns.names import address_text, lookup_key, name_text, reverse_address
from dnstrail.errors import SettingsError
from dnstrail.regular_file import read_regular

MOST_BYTES = 64 << 20  #: bytes of a watch list -> it is refused
#: watched names of all lists and rules together -> the start, or the reload, is refused
MOST_SUFFIXES = 1 << 20
_MOST_LINKS = 40  # to one file, as in Linux
_SHOWN = 100  # characters of a line that is no name
_ARPA = ".arpa"
_is_host_name = re.compile(r"[a-z0-9_.-]+").fullmatch  # of a name in our form
_first_label = re.compile(r"(?:[^.\\]|\\.)*\.?", re.DOTALL).match  # a backslash escapes a dot within a label


class WatchTable:
    """Watched names, each with the rules that watch it: a bit for each rule.

    The work for a name follows from its labels, however many rules there are.
    """

    def __init__(self) -> None:
        self._rules: dict[str, int] = {}

    def add(self, names: Iterable[str], rule: int) -> None:
        """Let a rule watch names and all names below them.

        Raises:
            SettingsError: the table would have more than MOST_SUFFIXES names.
        """
        rules = self._rules
        for name in names:
            known = rules.get(name)
            rules[name] = rule if known is None else known | rule
            if known is None and len(rules) > MOST_SUFFIXES:
                raise SettingsError(f"more than {MOST_SUFFIXES:,} watched names in all: shorten the lists")

    def of(self, name: str) -> int:
        """Return the rules that watch a name, or a name above it."""
        rules = self._rules
        if "\\" in name or name.endswith(_ARPA):
            return reduce(or_, (rules.get(key, 0) for key in _keys(name)), 0)
        found = 0
        while name:
            if name in rules:
                found |= rules[name]
            _, _, name = name.partition(".")
        return found

    def watched(self, names: Iterable[str], rules: int) -> dict[int, str]:
        """Return by rule the first name that it watches of these names and those above them, in one pass."""
        found: dict[int, str] = {}
        for key in chain.from_iterable(map(_keys, names)):
            while new := self._rules.get(key, 0) & rules:
                rule = new & -new  # the lowest bit
                found[rule] = key
                rules ^= rule
            if not rules:
                break
        return found


def _keys(name: str) -> Iterator[str]:
    """Yield the address that a reverse name encodes, the name, and the names above it."""
    address = reverse_address(name)
    if address is not None:
        yield address
    while name:
        yield name
        name = _parent(name)


def _parent(name: str) -> str:
    """Return the name above a name, "" above the last label."""
    if "\\" not in name:
        return name.partition(".")[2]
    label = _first_label(name)
    return name[label.end() :] if label else ""


def watched_key(text: str) -> str | None:
    """Return a written name or address in the form in which it is watched; None for a text that is neither.

    A leading `*.` is left out, as a name covers those below it. A character that no host name contains needs a
    backslash, since a URL or a line of a hosts file would watch nothing.
    """
    text = text.strip().removeprefix("*.")
    name = lookup_key(text) or name_text(text)  # a zone of reverse names is no key of a lookup
    if name and (_is_host_name(name) or "\\" in text or address_text(name)):
        return name
    return None


def read_watch_list(path: Path) -> list[str]:
    """Return the names in a watch list.

    Raises:
        SettingsError: The file cannot be read, a line is not a name, or no line is.
    """
    try:
        content = BytesIO(read_regular(path, MOST_BYTES, lambda status: _check_links(path, status.st_uid)))
        names = [*_names(path, TextIOWrapper(content, "utf-8"))]
    except PermissionError as error:
        raise SettingsError(f"watch list {path}: user {os.geteuid()} of this worker may not read it") from error
    except OSError as error:
        raise SettingsError(f"watch list {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"watch list {path}: {error}") from error
    if not names:
        raise SettingsError(f"watch list {path}: it has no name")
    return names


def _names(path: Path, lines: Iterable[str]) -> Iterator[str]:
    """Yield the names in the lines of a watch list."""
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        name = watched_key(text) if text else None
        if name:
            yield name
        elif text:
            shown = f"{text[:_SHOWN]!r} is no domain name"
            raise SettingsError(f"watch list {path}, line {number}: {shown}: write one name on each line")


def _check_links(path: Path, owner: int) -> None:
    """Refuse a file to which a link leads that neither root, this user nor the `owner` of the file made.

    A stranger could lead the worker to another file, whose lines then stand in an error.

    Raises:
        SettingsError: another user made a link.
    """
    way = path.absolute()
    for _ in range(_MOST_LINKS):
        link = next((one for one in reversed([way, *way.parents]) if one.is_symlink()), None)
        if link is None:
            return
        if (maker := link.lstat().st_uid) not in (0, os.geteuid(), owner):
            raise SettingsError(f"watch list {path}: user {maker} made the link {link}: name the file itself")
        way = link.parent / link.readlink() / way.relative_to(link)
