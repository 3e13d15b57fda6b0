"""Names, addresses, users and containers that facts are about: those that are never kept, or forgotten."""

from __future__ import annotations

import pwd
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from ipaddress import ip_network
from typing import Final

import msgspec

from dnstrail.container import user_of
from dnstrail.dns.names import address_text, known_address, lookup_key, reverse_address
from dnstrail.errors import SettingsError
from dnstrail.history.fact import Fact, FactId, StageFact
from dnstrail.protocol.facts import HOPS, TransactionValues
from dnstrail.users import parse_user

_FORWARDER, _SERVED = HOPS.index("forwarder"), HOPS.index("served")
_ID: Final = re.compile("[0-9a-f]{12,64}")  # of a container, at least as long as `docker ps` prints it
_NO_NAME: Final = re.compile(r"://|\*|:\d{1,5}$", re.ASCII)  # a URL, a pattern, a port: nothing is stored as such
_KINDS: Final = ("name", "user", "container")


class Subjects(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a fact may be about. A name stands for all names below it, too."""

    names: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    users: frozenset[int] = frozenset()
    containers: frozenset[str] = frozenset()

    def has_text(self, text: str) -> bool:
        """Return whether a name or an address is a subject, or below one."""
        if self.addresses and (reverse_address(text) or text) in self.addresses:
            return True
        while self.names and text not in self.names:
            _, dot, text = text.partition(".")
            if not dot:
                return False
        return bool(self.names)

    def has_packed(self, address: bytes) -> bool:
        """Return whether a packed address is a subject."""
        return known_address(address) in self.addresses

    def mentioned_by(self, fact: Fact | StageFact) -> bool:
        """Return whether a fact is of a user or a container, or has a name or an address, that is a subject."""
        process, values = fact.process, fact.values
        if process is not None and self._has_asker(process.user_id, process.container_id, process.container_name):
            return True
        if self.names or self.addresses:
            texts = {values.name or ""}
            if isinstance(values, TransactionValues):
                texts = texts.union(*((owner, target) for owner, _, target, _ in values.owned))
            if any(map(self.has_text, texts)):
                return True
        ends = [] if fact.flow is None else [fact.flow.source, fact.flow.destination]
        if isinstance(values, TransactionValues):
            ends.append(values.resolver or b"")
        return bool(self.addresses) and any(map(self.has_packed, ends))

    def ids_in(self, facts: Iterable[Fact | StageFact], others: AbstractSet[FactId]) -> AbstractSet[FactId]:
        """Return the ids of the facts that mention a subject, or were asked for such, in whatever order they ended.

        `others` are those of other facts that mention one.
        """
        found: set[FactId] = set()
        asked: defaultdict[FactId, list[FactId]] = defaultdict(list)
        for fact in facts:
            if self.mentioned_by(fact):
                found.add(fact.id)
            if isinstance(fact, Fact) and fact.asked_for is not None:
                asked[fact.asked_for].append(fact.id)
        following = [*found, *(others & asked.keys())]
        while following:
            new = {*asked.pop(following.pop(), ())} - found
            found |= new
            following += new
        return found

    def without(self, stages: Sequence[StageFact]) -> list[StageFact]:
        """Return stages of connections without those of a connection of which one mentions a subject."""
        mentioned = {stage.id for stage in stages if self.mentioned_by(stage)}
        return [stage for stage in stages if stage.id not in mentioned]

    def excludes(self, fact: Fact | StageFact) -> bool:
        """Return whether a fact is about a subject, or may be."""
        process, hop = fact.process, fact.values.hop if isinstance(fact, Fact) else None
        asker = (None, "", "") if process is None else (process.user_id, process.container_id, process.container_name)
        return self.exclude_asker(hop, *asker) or self.mentioned_by(fact)

    def exclude_asker(self, hop: int | None, user: int | None, container_id: str, container_name: str) -> bool:
        """Return whether a process is of a user or a container that is a subject, or may be; `user` None: unknown.

        A forwarder's question may be one of any user, and so may that of an unknown process, unless a client on another
        host was served. A container whose name is not known yet may have any name of its user.
        """
        if not self.users and not self.containers:
            return False
        if hop == _FORWARDER or (user is None and hop != _SERVED):
            return True
        user_of_container = user_of(container_id)
        if (
            container_id
            and not container_name
            and any(user_of(one) == user_of_container and not _ID.fullmatch(one) for one in self.containers)
        ):
            return True
        return user is not None and self._has_asker(user, container_id, container_name)

    def _has_asker(self, user: int, container_id: str, container_name: str) -> bool:
        if user in self.users or container_name in self.containers:
            return True
        user_of_it = user_of(container_id)
        return container_id != "" and any(
            user_of(one) == user_of_it and container_id.startswith(one) for one in self.containers
        )


def subjects_of(given: Iterable[str]) -> Subjects:
    """Return the subjects of `--exclude`: each is name=SUFFIX, user=NAME|UID or container=NAME|ID.

    Raises:
        SettingsError: one of them is wrong.
    """
    found: dict[str, set[str]] = {kind: set() for kind in _KINDS}
    for one in given:
        kind, _, value = one.partition("=")
        if kind not in found or not value or (kind == "name" and address_text(value)):
            raise SettingsError(f"--exclude {one!r:.100}: write name=SUFFIX, user=NAME|UID or container=NAME|ID")
        found[kind].add(value)
    return Subjects(
        frozenset(map(_name, found["name"])),
        users=frozenset(map(user_id, found["user"])),
        containers=frozenset(found["container"]),
    )


def subject_of(key: str) -> Subjects:
    """Return a name or an address as a subject.

    Raises:
        SettingsError: it is neither.
    """
    name = _name(key)
    return Subjects(frozenset({name})) if address_text(name) is None else Subjects(addresses=frozenset({name}))


def user_id(text: str) -> int:
    """Return the id of a user by its name or number.

    Raises:
        SettingsError: there is no such user.
    """
    if numbered := parse_user(text, "0"):
        return numbered.uid
    try:
        return pwd.getpwnam(text).pw_uid
    except (KeyError, ValueError) as error:
        raise SettingsError(f"no user of this host is named {text!r:.100}") from error


def _name(text: str) -> str:
    rest = text.removeprefix("*.")
    name = lookup_key(rest)
    if not name or (address_text(name) is None and (_NO_NAME.search(rest) or _is_network(rest))):
        raise SettingsError(f"{text!r:.100} is no name and no address")
    return name


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True
