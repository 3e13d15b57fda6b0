"""Limits of a signature: the containers, images, programs and users about which alone it reports."""

from __future__ import annotations

import pwd
from typing import Annotated

import msgspec

from dnstrail.events import Event
from dnstrail_signatures.loading.allow import Entry, is_container

_Id = Annotated[int, msgspec.Meta(ge=0)]


class OnlyList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `only` of a signature: an event has to match each list that is not empty.

    An event without a process matches none. Invariant: all users are ids.
    """

    containers: tuple[Entry, ...] = ()  #: only these containers: a name, an image, or an id (its first 12 characters)
    images: tuple[Entry, ...] = ()  #: only these images of containers
    programs: tuple[Entry, ...] = ()  #: only these programs: a path, or the name of its file
    users: tuple[_Id | Entry, ...] = ()  #: only these users: a number, or a name on the host of the worker

    def __post_init__(self) -> None:
        """Read the ids of users.

        Raises:
            ValueError: a user name is unknown on this host.
        """
        msgspec.structs.force_setattr(self, "users", tuple(map(_id_of, self.users)))

    def includes(self, event: Event) -> bool:
        """Return whether an event matches; an event without a process matches no list."""
        process = event.process
        return (
            (not self.containers or any(is_container(process, one) for one in self.containers))
            and (not self.images or process.container_image in self.images)
            and (not self.programs or not {process.path, process.path.rpartition("/")[2]}.isdisjoint(self.programs))
            and (not self.users or (process.pid > 0 and process.user_id in self.users))
        )


def _id_of(user: int | str) -> int:
    try:
        return user if isinstance(user, int) else pwd.getpwnam(user).pw_uid
    except (KeyError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise ValueError(f"{user!r} is no user of this host: use its number") from error
