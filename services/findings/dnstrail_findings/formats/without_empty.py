"""Documents without values that are not known."""

from __future__ import annotations

from typing import Any

_EMPTY: tuple[Any, ...] = (None, "", {}, [])


def without_empty(value: Any) -> Any:
    """Return maps and lists without null, "", and empty maps and lists."""
    if isinstance(value, dict):
        return {key: kept for key, each in value.items() if (kept := without_empty(each)) not in _EMPTY}
    if isinstance(value, list):
        return [kept for each in value if (kept := without_empty(each)) not in _EMPTY]
    return value
