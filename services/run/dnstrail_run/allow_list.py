"""The allow list: the names, addresses and ports that a command may reach (docs/use/run.md).

One entry on each line; `#` begins a comment. An entry is a name (`github.com`), all names below one (`*.debian.org`),
or an address or network (`192.0.2.0/24`), and may end with ports (`github.com:22,443`, `[2001:db8::1]:443`). An entry
that begins with a slash is the Unix socket of a service, which `--enforce` would hide. `resolver 192.0.2.53` is a DNS
server that may be asked like the configured resolvers.

`include FILE` adds another list, whose path begins at the folder of this one, and `@pypi` a group of `groups/`.
Behind a name, words add types of questions to the usual ones (`_http._tcp.deb.debian.org SRV`), and
`resolver 192.0.2.53` restricts the entry to the answers of this server, which is asked for nothing else. `unchecked`
exempts the ports of the entry from `--check-server-name`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

import msgspec

from dnstrail.dns.names import name_text
from dnstrail.errors import SettingsError
from dnstrail.tracee.codes import TYPES

MOST_ENTRIES = 10_000  #: entries of an allow list, with its groups and included files -> exit code 2
MOST_INCLUDED = 64  #: files and groups that one allow list includes -> exit code 2
GROUP, INCLUDE = "@", "include "  # begin an entry
_GROUPS = Path(__file__).with_name("groups")
_PORTED = re.compile(r"(?P<subject>\[[^\]]*\](?:/\d+)?|[^:\[\]]*):(?P<ports>[\d,]+)")
_BRACKETED = re.compile(r"^\[([^\[\]]*)\](/\d+)?$")
NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")  # in the form of lookups; a name with other bytes is no entry
_LARGEST_PORT = 65535
DNS = 53  # the port
RESOLVER = "resolver"  # begins an entry
UNCHECKED = "unchecked"  # behind a name
#: types of questions that each name of an allow list may be asked for
USUAL_TYPES = frozenset({1, 5, 28, 64, 65})  # A, CNAME, AAAA, SVCB, HTTPS
_TYPES = {text: number for number, text in TYPES.items() if number < 64}  # noqa: PLR2004 - bits of a mask
ENTRY_TYPES = frozenset(text for text, number in _TYPES.items() if number not in USUAL_TYPES)  # an entry adds them
Network = IPv4Network | IPv6Network
_MAPPED = IPv6Network("::ffff:0:0/96")
Ports = frozenset[int]  # empty: all ports


class ListedName(msgspec.Struct, frozen=True):
    """What one line allows a name: ports, types beside USUAL_TYPES, and resolvers (packed; none: all configured).

    `unchecked` states that connections on its ports need not state the name.
    """

    ports: Ports = frozenset()
    types: frozenset[int] = frozenset()
    resolvers: frozenset[bytes] = frozenset()
    unchecked: bool = False


class AllowList(msgspec.Struct, frozen=True):
    """The entries of a list: names, suffixes (without `*.`), and networks, each with what it allows.

    `sockets` are paths of Unix sockets. `resolvers` are packed addresses with their text, as in `servers_in`;
    `narrow` are those that entries of names have for themselves.
    """

    names: dict[str, list[ListedName]]
    suffixes: dict[str, list[ListedName]]
    networks: list[tuple[Network, Ports]]
    sockets: list[str] = []
    resolvers: dict[bytes, str] = {}
    narrow: dict[bytes, str] = {}

    def allows_name(self, name: str) -> bool:
        """Return whether a name may be asked: the ports do not matter."""
        return any(True for _ in self.entries_of(name))

    def allows(self, name: str, address: str, port: int) -> bool:
        """Return whether a connection to an address and port, made for a name ("": unknown), is allowed."""
        if name and any(_has(ports, port) for ports in self.ports_of(name)):
            return True
        found = ip_address(address)
        if port == DNS and (found.packed in self.resolvers or found.packed in self.narrow):
            return True
        return any(found in network and _has(ports, port) for network, ports in self.networks)

    def ports_of(self, name: str) -> Iterable[Ports]:
        """Yield the ports of each entry that contains a name."""
        return (entry.ports for entry in self.entries_of(name))

    def entries_of(self, name: str) -> Iterable[ListedName]:
        """Yield each entry that contains a name."""
        yield from self.names.get(name, ())
        labels = name.split(".")
        for first in range(1, len(labels)):
            yield from self.suffixes.get(".".join(labels[first:]), ())


def parse_allow_list(text: str, path: Path | None = None, read: Callable[[Path], str] | None = None) -> AllowList:
    """Return the entries of a list; `read` returns the text of an included file, whose path begins at that of the list.

    Raises:
        SettingsError: a line is no entry; the text names it.
    """
    parser = _Parser(read)
    parser.add(text, path or Path(), "")
    return parser.found


def group_text(name: str) -> str:
    """Return the text of a group that dnstrail brings along (`pypi`).

    Raises:
        ValueError: there is none.
    """
    if name not in group_names():
        raise ValueError(f"no group has this name; there are {', '.join(group_names())}")
    return (_GROUPS / f"{name}.txt").read_text(encoding="utf-8")


def group_names() -> list[str]:
    """Return the names of the groups."""
    return sorted(path.stem for path in _GROUPS.glob("*.txt"))


class _Parser:
    """Reads a list with its groups and included files, each once, into one list."""

    def __init__(self, read: Callable[[Path], str] | None) -> None:
        self.found = AllowList({}, {}, [], [], {}, {})
        self._read = read
        self._entries = 0
        self._seen: set[str] = set()

    def add(self, text: str, path: Path, where: str) -> None:
        """Add the entries of a text; `where` begins the place of an error."""
        for number, line in enumerate(text.split("\n"), 1):
            if not (entry := line.partition("#")[0].strip()):
                continue
            self._entries += 1
            if self._entries > MOST_ENTRIES:
                raise SettingsError(f"--allow: more than {MOST_ENTRIES} entries")
            try:
                self._add(entry, path)
            except ValueError as error:
                raise SettingsError(f"--allow: {where}line {number}: {entry!r:.80}: {error}") from error

    def _add(self, entry: str, path: Path) -> None:
        if entry.startswith(GROUP):
            name = entry.removeprefix(GROUP)
            if self._is_new(entry):
                self.add(group_text(name), path, f"{entry}: ")
        elif entry.startswith(INCLUDE):
            if self._read is None:
                raise ValueError("nothing is included here")
            other = path.parent / entry.removeprefix(INCLUDE).strip()
            if self._is_new(os.path.normpath(other)):
                self.add(self._read(other), other, f"{other}: ")
        else:
            add_entry(self.found, entry)

    def _is_new(self, name: str) -> bool:
        """Return whether a text was not added yet: a file may include one that includes it."""
        known = name in self._seen
        self._seen.add(name)
        if len(self._seen) > MOST_INCLUDED:
            raise ValueError(f"more than {MOST_INCLUDED} files and groups")
        return not known


def add_entry(found: AllowList, entry: str) -> None:
    """Add an entry that is no `include` and no group to a list.

    Raises:
        ValueError: it is no entry.
    """
    if entry.startswith("/"):
        found.sockets.append(entry)
        return
    word, *rest = entry.split(maxsplit=1)
    if word == RESOLVER and rest:
        found.resolvers.update(_resolver(rest[0]))
        return
    if rest and word.startswith("["):
        raise ValueError("only a name has types and resolvers")
    ported = _PORTED.fullmatch(word)
    subject, ports = (ported["subject"], _ports(ported["ports"])) if ported else (word, frozenset[int]())
    network = _network(subject)
    if network is not None:
        if rest:
            raise ValueError("only a name has types and resolvers")
        found.networks.append((network, ports))
        return
    below = subject.startswith("*.")
    name = name_text(subject.removeprefix("*."))
    if not name or not NAME.fullmatch(name):
        raise ValueError("neither a name, nor *.name, nor an address or network")
    words = rest[0].split() if rest else []
    types, resolvers = _conditions([one for one in words if one != UNCHECKED])
    found.narrow.update(resolvers)
    made = ListedName(ports, types, frozenset(resolvers), UNCHECKED in words)
    (found.suffixes if below else found.names).setdefault(name, []).append(made)


def entry_of(subject: str, ports: str = "", words: Iterable[str] = ()) -> str:
    """Return the line of an entry; `ports` begin with a colon. A name like `resolver` ends with a dot before words."""
    parts = [subject + ports, *words]
    if len(parts) > 1 and parts[0] in (RESOLVER, INCLUDE.rstrip()):
        parts[0] += "."
    return " ".join(parts)


def _conditions(words: list[str]) -> tuple[frozenset[int], dict[bytes, str]]:
    """Return the types and resolvers behind a name.

    Raises:
        ValueError: a word is neither.
    """
    types, resolvers = set(), {}
    while words:
        word, *words = words
        if word == RESOLVER and words:
            resolvers.update(_resolver(words.pop(0)))
        elif word.upper() in _TYPES:
            types.add(_TYPES[word.upper()])
        else:
            raise ValueError(f"{word!r:.20} is no type of a question, nor `{RESOLVER} ADDRESS`, nor `{UNCHECKED}`")
    return frozenset(types), resolvers


def _resolver(text: str) -> dict[bytes, str]:
    """Return the address of a resolver, packed and as text; the text has its zone (`%eth0`).

    Raises:
        ValueError: the text is no address.
    """
    address, *zone = _BRACKETED.sub(r"\1", text).partition("%")
    found = ip_address(address)
    found = getattr(found, "ipv4_mapped", None) or found
    return {found.packed: f"{found}{''.join(zone)}"}


def _network(subject: str) -> Network | None:
    """Return the network that a text names, that of IPv4 for mapped addresses, None if it is a name.

    Raises:
        ValueError: a network with bits beyond its length.
    """
    text = _BRACKETED.sub(r"\1\2", subject)
    try:
        found = ip_network(text)
    except ValueError:
        if text.partition("/")[0].replace(".", "").isdigit() or ":" in text:
            raise
        return None
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        return IPv4Network((found.network_address.packed[-4:], found.prefixlen - _MAPPED.prefixlen))
    return found


def _ports(text: str) -> Ports:
    words = text.split(",")
    if not all(0 < len(word) <= len("65535") and 0 < int(word) <= _LARGEST_PORT for word in words):
        raise ValueError(f"a port is a number from 1 to {_LARGEST_PORT}")
    return frozenset(map(int, words))


def _has(ports: Ports, port: int) -> bool:
    return not ports or port in ports
