"""The scope of a signature: the events on which alone it reports, and those on which it reports nothing."""

from __future__ import annotations

import pwd
from collections.abc import Iterable
from datetime import datetime
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import Annotated

import msgspec

from dnstrail.captured import Process
from dnstrail.container import fits_label, user_of
from dnstrail.dns.names import is_in_zone, packed_address_text, reverse_address
from dnstrail.events import DST_DNS, FACT_NAMES, Event
from dnstrail.kernel.systemd_units import can_be_unit, is_in_unit
from dnstrail_signatures.detection.watch_table import watched_key

Entry = Annotated[str, msgspec.Meta(min_length=1)]
_LEAST_ID = 12  # characters of a container id that identify it, as Docker prints it


HIGHEST_SEVERITY = 3  # as tracee's signatures count
_SECOND = 1_000_000_000


class Allow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `allow` of a signature.

    Invariant: names are in the form of watch lists, and addresses are valid.
    """

    names: tuple[Entry, ...] = ()  #: no finding on these names and the names below them
    processes: tuple[Entry, ...] = ()  #: no finding on these processes: a name, or the path of a program
    #: no finding on these containers: a name or pattern (`*.shop`), image, id, or label (`app=web`); root's alone,
    #: unless a user is written (`alice/web`)
    containers: tuple[Entry, ...] = ()
    #: no finding on these systemd units or slices, or such patterns: root's alone, unless a user is written (`alice/*`)
    units: tuple[Entry, ...] = ()
    addresses: tuple[Entry, ...] = ()  #: no finding on events from or to these addresses or networks

    def __post_init__(self) -> None:
        """Read names as a watch list does, and refuse what would never match.

        Raises:
            ValueError: a name is no domain name, an address is none, or a unit has no ending of systemd.
        """
        _check_units(self.units)
        msgspec.structs.force_setattr(self, "names", tuple(map(suffix_of, self.names)))
        for address in self.addresses:
            ip_network(address)

    def allows(self, event: Event) -> bool:
        """Return whether an event is about something on the list."""
        process = event.process
        return (
            bool({process.name, process.path}.intersection(self.processes))
            or any(is_container(process, one) for one in self.containers)
            or any(is_in_unit(process, one) for one in self.units)
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
    """Return the name that an event is about: that was asked, or the likeliest one of a connection."""
    if event.event_name in FACT_NAMES:
        return [event.arg("name") or ""]
    if event.question is not None:
        return [event.question.name]
    names = event.arg(DST_DNS)
    return names[:1] if isinstance(names, list) else []


def _is_below(name: str, allowed: str) -> bool:
    """Return whether a name is the allowed one, lies below it, or encodes an allowed address."""
    return is_in_zone(name, allowed) or reverse_address(name) == allowed


def suffix_of(text: str) -> str:
    """Return a name of the settings, written as in a watch list (`*.a.example`), in the form of lookups.

    Raises:
        ValueError: it is no domain name, and no address.
    """
    suffix = watched_key(text)
    if suffix is None:
        raise ValueError(f"{text!r} is no domain name")
    return suffix


def is_container(process: Process, given: str) -> bool:
    """Return whether a process is in a container that is given by its id, image, a pattern of its name, or a label.

    A container of a user fits only by id, name or label, and only if the user is written: the user chooses the rest.
    """
    identity, name = process.container_id, process.container_name
    if not identity or (user_of(identity) and "/" not in given):
        return False
    if len(given.rpartition("/")[2]) >= _LEAST_ID and identity.startswith(given):
        return True
    shown = name or (identity if user_of(identity) else "")  # `alice/*` fits those without a name, too
    return (
        given == _image_of(process)
        or (shown != "" and fnmatchcase(shown, given))
        or fits_label(identity, process.container_labels, given)
    )


def _image_of(process: Process) -> str:
    """Return the image of a container of root, else "": the users choose those of theirs."""
    return "" if user_of(process.container_id) else process.container_image


_Id = Annotated[int, msgspec.Meta(ge=0)]


class Only(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `only` of a signature: an event has to match each list that is not empty.

    An event without a process matches none. Invariant: all users are ids.
    """

    #: only these: a name or pattern (`*.shop`), image, id (12 characters), or label (`app=web`); root's alone, unless a
    #: user is written
    containers: tuple[Entry, ...] = ()
    images: tuple[Entry, ...] = ()  #: only these images of root's containers
    programs: tuple[Entry, ...] = ()  #: only these programs: a path, or the name of its file
    users: tuple[_Id | Entry, ...] = ()  #: only these users: a number, or a name on the host of the worker
    #: only these systemd units or slices, or such patterns: root's alone, unless a user is written (`alice/*`)
    units: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        """Read the ids of users.

        Raises:
            ValueError: a user name is unknown on this host, or a unit has no ending of systemd.
        """
        _check_units(self.units)
        msgspec.structs.force_setattr(self, "users", tuple(map(_id_of, self.users)))

    def includes(self, event: Event) -> bool:
        """Return whether an event matches; an event without a process matches no list."""
        process = event.process
        return (
            (not self.containers or any(is_container(process, one) for one in self.containers))
            and (not self.images or _image_of(process) in self.images)
            and (not self.programs or not {process.path, process.path.rpartition("/")[2]}.isdisjoint(self.programs))
            and (not self.users or (process.pid > 0 and process.user_id in self.users))
            and (not self.units or any(is_in_unit(process, one) for one in self.units))
        )


def _check_units(units: Iterable[str]) -> None:
    """Refuse a unit that no process has.

    Raises:
        ValueError: a name has no ending of systemd.
    """
    for unit in units:
        if not can_be_unit(unit):
            raise ValueError(f"{unit!r} is no unit or slice: write its ending, as in {unit + '.service'!r}")


def _id_of(user: int | str) -> int:
    try:
        return user if isinstance(user, int) else pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise ValueError(f"{user!r} is no user of this host: use its number") from error


class Mute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mute of a signature: it reports nothing on events before `until`, for a reason."""

    reason: Annotated[str, msgspec.Meta(min_length=1)]  #: why the signature is muted
    until: Annotated[datetime, msgspec.Meta(tz=True)]  #: end of the mute, a time with its zone: no finding before it


class CommonSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings that every signature has. The engine applies them."""

    enabled: bool = True  #: false: the signature does not run; true: it runs even if it is off by default
    #: the property `Severity` of its findings
    severity: Annotated[int, msgspec.Meta(ge=0, le=HIGHEST_SEVERITY)] | None = None
    allow: Allow = Allow()
    only: Only = Only()
    mute: Mute | None = None

    @property
    def can_suppress(self) -> bool:
        """Whether a finding on any event can be suppressed."""
        return self.mute is not None or self.allow != Allow() or self.only != Only()

    def suppresses(self, event: Event) -> bool:
        """Return whether a finding on an event is not reported."""
        muted = self.mute is not None and event.timestamp < self.mute.until.timestamp() * _SECOND
        return muted or self.allow.allows(event) or not self.only.includes(event)
