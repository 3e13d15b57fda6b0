"""The result of a lookup as text for people; text from strangers is escaped."""

from __future__ import annotations

from typing import Any

from dnstrail.errors import DataNotFound
from dnstrail.process.terminal import escape_unprintable

_INCOMPLETE = ", history incomplete"


def found_text(key: str, data: dict[str, Any] | DataNotFound) -> str:
    """Return a lookup as text: the key, its root, the names that belong to it, and its addresses."""
    if isinstance(data, DataNotFound):
        return f"{escape_unprintable(key)}: not found{'' if data.history else _INCOMPLETE}"
    state = data.get("state", "live") + (", truncated" if data.get("truncated") else "")
    state += "" if data.get("history", True) else _INCOMPLETE
    rows = {
        "key": [key],
        "root": [data["dns_root"] or "(nobody asked for it)"],
        "names": data["dns_queries"],
        "addresses": data["ip_addresses"] or ["(none)"],
        "state": [state],
    }
    lines = [
        f"{name if place == 0 else '':<11}{escape_unprintable(value)}"
        for name, values in rows.items()
        for place, value in enumerate(values)
    ]
    return "\n".join(lines)
