"""Text from strangers on its way to a terminal."""

from __future__ import annotations

import codecs
import json

codecs.lookup("unicode_escape")  # a worker becomes a user who may not be able to read the module of this codec


def escape_unprintable(text: str) -> str:
    """Return text in which control bytes, and all other characters that are not printable, are escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def json_line(value: object) -> str:
    """Return a value as one JSON line of printable ASCII."""
    return json.dumps(value).replace("\x7f", "\\u007f")
