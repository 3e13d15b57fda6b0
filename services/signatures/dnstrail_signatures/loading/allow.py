"""Allow lists: the names, processes, containers and addresses on which a signature reports nothing."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Annotated

import msgspec

from dnstrail.captured import Process
from dnstrail.dns.names import lookup_key, packed_address_text
from dnstrail.events import DST_DNS, Event

Entry = Annotated[str, msgspec.Meta(min_length=1)]
_LEAST_ID = 12  # characters of a container id that identify it, as Docker prints it


class AllowList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `allow` of a signature.

    Invariant: names and addresses are valid.
    """

    names: tuple[Entry, ...] = ()  #: no finding on these names and the names below them
    processes: tuple[Entry, ...] = ()  #: no finding on these processes: a name, or the path of a program
    containers: tuple[Entry, ...] = ()  #: no finding on these containers: a name, an image, or an id (12 characters)
    addresses: tuple[Entry, ...] = ()  #: no finding on events from or to these addresses or networks

    def __post_init__(self) -> None:
        """Refuse what would never match.

        Raises:
            ValueError: a name is no domain name, or an address is none.
        """
        for name in self.names:
            if lookup_key(name) is None or lookup_key(name) == ".":
                raise ValueError(f"{name!r} is no domain name")
        for address in self.addresses:
            ip_network(address)

    def allows(self, event: Event) -> bool:
        """Return whether an event is about something on the list."""
        process = event.process
        return (
            bool({process.name, process.path}.intersection(self.processes))
            or any(is_container(process, one) for one in self.containers)
            or any(_is_below(name, one) for one in self.names for name in _names_of(event))
            or self._has_address(event)
        )

    def _has_address(self, event: Event) -> bool:
        flow = event.captured.flow
        if flow is None or not self.addresses:
            return False
        ends = [ip_address(packed_address_text(end)) for end in (flow.source, flow.destination) if end]
        networks = [ip_network(one) for one in self.addresses]
        return any(end in network for end in ends for network in networks)


def _names_of(event: Event) -> list[str]:
    """Return the name that an event is about: the question of a DNS message, or the likeliest name of a connection."""
    if event.question is not None:
        return [event.question.name]
    names = event.arg(DST_DNS)
    return names[:1] if isinstance(names, list) else []


def _is_below(name: str, allowed: str) -> bool:
    """Return whether a name is the allowed one or lies below it; a backslash escapes a dot within a label."""
    suffix = lookup_key(allowed)
    if name == suffix:
        return True
    if not name.endswith(f".{suffix}"):
        return False
    label = name.removesuffix(f".{suffix}")
    return (len(label) - len(label.rstrip("\\"))) % 2 == 0


def is_container(process: Process, given: str) -> bool:
    """Return whether a process is in a container that is given by its id, its name or its image."""
    if len(given) >= _LEAST_ID and process.container_id.startswith(given):
        return True
    return bool(process.container_id) and given in (process.container_name, process.container_image)
