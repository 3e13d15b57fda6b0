"""Containers of root and of users. Ids and names of a user's containers begin with the user: `alice/web`."""

from __future__ import annotations

from fnmatch import fnmatchcase


def user_of(container: str) -> str:
    """Return the user of a container by its id or name; "" if it is root's."""
    return container.rpartition("/")[0]


def is_roots(container: str) -> bool:
    """Return whether an id is that of a container of root: no user can choose it."""
    return container != "" and "/" not in container


def fits_container(identity: str, name: str, image: str, given: str) -> bool:
    """Return whether a container is given by the beginning of its id, or by a pattern of its name or image.

    A container of a user fits by id and name alone, and only if the user is written: the user chooses the rest.
    """
    if not identity:
        return False
    if user_of(identity):
        return "/" in given and (identity.startswith(given) or fnmatchcase(name, given))
    return identity.startswith(given) or any(one and fnmatchcase(one, given) for one in (name, image))
