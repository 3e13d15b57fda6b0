"""The structures of the programs in this folder: as C lays them out, and as Python reads them."""

from __future__ import annotations

import ctypes
import struct
from ipaddress import ip_address
from typing import Any

from dnstrail.tracee.codes import TYPES
from dnstrail_run.allow_list import DNS
from dnstrail_run.enforce.refusals import ACTIONS, ASK, OTHER, REASONS, SOCKET, STATE, UNSTATED, Attempt, transport_of
from dnstrail_run.report import Conflict

_TEXT = 256  # bytes of a name
_COMMAND = 16  # bytes of the name of a process
SHOWN = 8  # addresses of each side of a conflict
START = struct.Struct("=2Q4I")  # `struct start`: home, seed, afterwards, any_question, asks, checked
GUIDES = bytes(32) + (1).to_bytes(4, "little") + bytes(44)  # `struct asker` of a socket of the launcher


class _Address(ctypes.Structure):
    """`struct address`."""

    _fields_ = (("family", ctypes.c_uint32), ("words", ctypes.c_uint32 * 4))


class RefusalKey(ctypes.Structure):
    """`struct refusal`, a key of `refused`."""

    _fields_ = (
        ("words", ctypes.c_uint32 * 4),
        ("pid", ctypes.c_uint32),
        ("action", ctypes.c_uint32),
        ("port", ctypes.c_uint16),
        ("protocol", ctypes.c_uint16),
        ("family", ctypes.c_uint16),
        ("type", ctypes.c_uint16),
        ("comm", ctypes.c_char * _COMMAND),
    )


class UnaskedValue(ctypes.Structure):
    """`struct unasked`, a value of `unasked`."""

    _fields_ = (
        ("name", ctypes.c_ubyte * _TEXT),
        ("times", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("reason", ctypes.c_uint32),
        ("kind", ctypes.c_uint32),
        ("protocol", ctypes.c_uint32),
        ("peer", _Address),
        ("comm", ctypes.c_char * _COMMAND),
    )


class WaitingValue(ctypes.Structure):
    """`struct waiting`, a value of `waiting`."""

    _fields_ = (("refusal", ctypes.c_uint64), ("question", UnaskedValue))


class ConflictValue(ctypes.Structure):
    """`struct conflict`, a value of `conflicts`."""

    _fields_ = (
        ("name", ctypes.c_ubyte * _TEXT),
        ("counts", ctypes.c_uint32 * 2),
        ("addresses", _Address * (2 * SHOWN)),
    )


class FirstRecord(ctypes.Structure):
    """`struct first`, a record of the ring buffer."""

    _fields_ = (("question", ctypes.c_uint64), ("waiting", ctypes.c_uint64), ("refusal", RefusalKey))


def attempt_of(key: Any, times: int) -> Attempt:
    """Return the attempt of a RefusalKey."""
    action = ACTIONS[key.action]
    return Attempt(
        action=action,
        address="" if action == SOCKET else _address(key),
        port=key.port,
        transport=transport_of(key.protocol, key.type),
        pid=key.pid,
        name=key.comm.decode(errors="backslashreplace"),
        times=times,
    )


def question_of(found: Any) -> Attempt:
    """Return the attempt of an UnaskedValue."""
    reason = REASONS[found.reason]
    is_stated = reason in (UNSTATED, OTHER)
    return Attempt(
        action=STATE if is_stated else ASK,
        address=_address(found.peer),
        port=found.kind if is_stated else DNS,
        transport=transport_of(found.protocol, 0),
        pid=found.pid,
        name=found.comm.decode(errors="backslashreplace"),
        times=found.times,
        asked=_name(found.name),
        type=TYPES.get(found.kind, f"TYPE{found.kind}") if found.kind and not is_stated else "",
        reason=reason,
    )


def conflict_of(found: Any) -> Conflict:
    """Return the conflict of a ConflictValue."""
    sides = [
        [_address(found.addresses[side * SHOWN + place]) for place in range(min(found.counts[side], SHOWN))]
        for side in (0, 1)
    ]
    return Conflict(
        name=_name(found.name),
        believed=sides[0],
        surplus=sides[1],
        more=sum(found.counts) - sum(map(len, sides)),
    )


def _name(backwards: Any) -> str:
    """Return a name of `struct suffix`, whose last byte comes first."""
    text = bytes(backwards).partition(b"\0")[0][::-1].removeprefix(b".")
    return text.decode("ascii", errors="backslashreplace")


def _address(found: Any) -> str:
    packed = bytes(found.words)[: 4 if found.family == 4 else 16]  # noqa: PLR2004 - the family as the programs write it
    return str(ip_address(packed))
