"""Encodes messages of the Container Runtime Interface (protobuf.dev/programming-guides/encoding)."""

from __future__ import annotations

from typing import Any


def message(*fields: tuple[int, Any]) -> bytes:
    """Return a protobuf message: numbers as varints, texts and messages with their length."""
    wire = b""
    for field, value in fields:
        if isinstance(value, int):
            wire += _varint(field << 3) + _varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            wire += _varint(field << 3 | 2) + _varint(len(data)) + data
    return wire


def _varint(number: int) -> bytes:
    wire = b""
    while number > 0x7F:
        wire += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return wire + bytes((number,))
