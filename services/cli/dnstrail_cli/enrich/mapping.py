"""`--map FIELD=PATH`: where the events of any tool have the values of a connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dnstrail.errors import SettingsError
from dnstrail_cli.enrich.formats import Fields, ReadEvent, connection

FIELDS: Final = ("address", "port", "client", "source_port", "process", "container", "time")


def reader_of(values: Sequence[str]) -> ReadEvent:
    """Return the function that reads events by the values of `--map`.

    Raises:
        SettingsError: a value is not FIELD=PATH, or none is for the address.
    """
    paths: dict[str, tuple[str, ...]] = {}
    for value in values:
        field, _, path = value.partition("=")
        if field not in FIELDS or not path:
            raise SettingsError(f"--map {value!r}: expected FIELD=PATH; known fields: {', '.join(FIELDS)}")
        paths[field] = tuple(path.split("."))
    if "address" not in paths:
        raise SettingsError("--map: address=PATH is missing, the address of the server")

    def read(event: Mapping[str, Any]) -> Fields | None:
        return connection(**{field: value_at(event, path) for field, path in paths.items()})

    return read


def value_at(value: object, path: tuple[str, ...]) -> object:
    """Return the value at a path, None if there is none. A number is a place in a list; a key may contain dots."""
    if not path:
        return value
    if isinstance(value, list):
        place = int(path[0]) if path[0].isdecimal() and len(path[0]) <= len(str(len(value))) else len(value)
        return value_at(value[place], path[1:]) if place < len(value) else None
    if not isinstance(value, dict):
        return None
    for end in range(1, len(path) + 1):
        key = ".".join(path[:end])
        if key in value:
            return value_at(value[key], path[end:])
    return None
