"""Containers of root and of users. Ids and names of a user's containers begin with the user: `alice/web`."""

from __future__ import annotations

from fnmatch import fnmatchcase

from dnstrail.captured import Labels

_SHORT = 12  # characters of an id, as Docker prints it


def user_of(container: str) -> str:
    """Return the user of a container by its id or name; "" if it is root's."""
    return container.rpartition("/")[0]


def is_roots(container: str) -> bool:
    """Return whether an id is that of a container of root: no user can choose it."""
    return container != "" and "/" not in container


def container_text(identity: str, name: str) -> str:
    """Return the name of a container, else its id as Docker prints it, behind the user; "" on the host."""
    user, slash, own = identity.rpartition("/")
    return name or f"{user}{slash}{own[:_SHORT]}"


def fits_container(identity: str, name: str, image: str, given: str, labels: Labels = ()) -> bool:
    """Return whether a container is given by the beginning of its id, or by a pattern of its name, image or label.

    A container of a user fits by id (`alice/*`), name and label alone, and only if the user is written, who chooses the
    image. A label fits as `fits_label` states.
    """
    if not identity:
        return False
    if user_of(identity) and "/" not in given:
        return False
    texts = (name, identity) if user_of(identity) else (name, image)
    return (
        identity.startswith(given)
        or any(one and fnmatchcase(one, given) for one in texts)
        or fits_label(identity, labels, given)
    )


def fits_label(identity: str, labels: Labels, given: str) -> bool:
    """Return whether a container has a label that is given as KEY=PATTERN; of a user as USER/KEY=PATTERN.

    The key must be the same, so that no value of a label fits what is written for a name.
    """
    key, equals, pattern = given.partition("=")
    if not equals or not labels:
        return False
    if user := user_of(identity):
        owner, _, key = key.partition("/")
        if not fnmatchcase(user, owner):
            return False
    return any(known == key and fnmatchcase(value, pattern) for known, value in labels)
