"""What the log says of an error: its type, its text, and its place in the file of the signature."""

from __future__ import annotations

import json

import pytest

from dnstrail_signatures.engine.errors import described, place_of, text_of


class Textless(Exception):
    """An error whose text raises another one."""

    def __str__(self) -> str:
        raise SystemExit("on purpose")


class Here:
    """Stands for a signature of this file."""


def library_error() -> BaseException:
    """Return the error of a library that this line of a signature called."""
    with pytest.raises(json.JSONDecodeError) as found:
        json.loads("{")
    return found.value


def test_type_and_text():
    """An error is described by its type and its text, of which a class of a user may have none."""
    assert described(ValueError("no number")) == "ValueError: no number"
    assert described(Textless()) == "Textless: its text cannot be had"
    assert [text_of(one) for one in ("a", 3, Textless())] == ["a", "3", "its text cannot be had"]


def test_the_place_is_the_innermost_line_of_the_signature():
    """An error within a library is shown at the line of the signature that called it."""
    line = library_error.__code__.co_firstlineno + 3
    assert place_of(Here, library_error()) == f"{__file__}:{line}"


def test_without_a_line_of_the_signature_the_innermost_is_shown():
    """A class may be made without a module, as by a test."""
    made = type("Made", (), {"__module__": "no.such.module"})
    assert place_of(made, library_error()).startswith(f"{json.decoder.__file__}:")
