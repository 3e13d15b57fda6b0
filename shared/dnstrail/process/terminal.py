"""Text from strangers on its way to a terminal."""

from __future__ import annotations

import codecs
import json
from contextlib import suppress

import msgspec

_ENCODE = msgspec.json.Encoder().encode  # it writes Unicode, and is several times as fast as the json module

codecs.lookup("unicode_escape")  # a worker becomes a user who may not be able to read the module of this codec


def escape_unprintable(text: str) -> str:
    """Return text in which control bytes, and all other characters that are not printable, are escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def json_line(value: object) -> str:
    """Return a value as one JSON line of printable ASCII."""
    return json_bytes(value).decode()


def json_bytes(value: object) -> bytes:
    """Return a value as one JSON line of printable ASCII, to be sent or written."""
    with suppress(TypeError, ValueError, OverflowError):  # a text or a number that has no form there
        line = _ENCODE(value)
        if line.isascii() and b"\x7f" not in line:
            return line
    line = json.dumps(value, separators=(",", ":"), default=msgspec.to_builtins).encode()
    return line.replace(b"\x7f", b"\\u007f")
