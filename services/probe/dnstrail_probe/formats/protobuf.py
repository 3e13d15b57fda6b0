"""Reads one protobuf message into its fields, by their numbers (protobuf.dev/programming-guides/encoding).

The reader is our own: the messages are few and small, their input is untrusted, and no protobuf runtime is needed.
"""

from __future__ import annotations

from collections.abc import Mapping

_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}  # wire type -> bytes
_VARINT_BITS = 64

Fields = tuple[dict[int, int], dict[int, bytes]]  # the numbers and the byte strings of a message, by field
_NONE: Mapping[int, list[bytes]] = {}


def read_fields(data: bytes, most: int, repeated: Mapping[int, list[bytes]] = _NONE) -> Fields:
    """Return the fields of a protobuf message. If a field occurs twice, the last one counts.

    The lists of `repeated` receive all byte strings of their fields.

    Raises:
        ValueError, LookupError: the bytes are no protobuf message, or it has more than `most` fields.
    """
    numbers: dict[int, int] = {}
    texts: dict[int, bytes] = {}
    at = 0
    for _ in range(most):
        if at >= len(data):
            break
        tag, at = _varint(data, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            numbers[field], at = _varint(data, at)
        elif kind == _BYTES:
            length, at = _varint(data, at)
            texts[field] = data[at : at + length]
            at += length
            if field in repeated:
                repeated[field].append(texts[field])
        elif kind in _FIXED:
            numbers[field] = int.from_bytes(data[at : at + _FIXED[kind]], "little")
            at += _FIXED[kind]
        else:
            raise ValueError("a group, or an unknown wire type")
    if at != len(data):
        raise ValueError("cut within a field, or too many fields")
    return numbers, texts


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place behind it."""
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    for shift in range(7, _VARINT_BITS, 7):
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
    raise ValueError("a varint of more than 64 bits")
