"""Text from strangers on its way to a terminal."""

from __future__ import annotations

import json


def escape_unprintable(text: str) -> str:
    """Text with control bytes and everything else that is not printable escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def json_line(value: object) -> str:
    """One JSON line of plain ASCII."""
    return json.dumps(value).replace("\x7f", "\\u007f")
