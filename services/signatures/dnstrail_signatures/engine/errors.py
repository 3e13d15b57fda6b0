"""What the log says of an error of a signature."""

from __future__ import annotations

import sys
from traceback import walk_tb

from dnstrail.signature import Signature


def described(error: BaseException) -> str:
    """Return the type and the text of an error."""
    return f"{type(error).__name__}: {text_of(error)}"


def text_of(error: object) -> str:
    """Return the text of an error, or of a stated fault. A class of a user may have none."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - a signature must not stop the others
        return "its text cannot be had"


def place_of(cls: type[Signature], error: BaseException) -> str:
    """Return file and line of an error: the innermost in the file of the signature, else the innermost of all."""
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    own = getattr(sys.modules.get(cls.__module__), "__file__", None)
    file, line = next((place for place in reversed(places) if place[0] == own), places[-1])
    return f"{file}:{line}"
