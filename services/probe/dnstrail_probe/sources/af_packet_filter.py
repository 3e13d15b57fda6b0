"""The classic BPF program that passes only packets that may carry DNS to the AF_PACKET socket (linux/filter.h)."""

from __future__ import annotations

import struct

MAX_PACKET = 65536  # bytes of a packet
_IPV4, _IPV6 = 4, 6
_TCP, _UDP = 6, 17
_EXTENSIONS = (0, 43, 44, 51, 60)  # IPv6 extension headers: any transport may follow, so the packet passes
_FRAGMENT = 0x3FFF  # in an IPv4 header: the offset of a fragment, or "more fragments"

_LOAD_BYTE, _LOAD_HALF, _LOAD_HALF_X = 0x30, 0x28, 0x48
_LOAD_X, _LOAD_X_IHL = 0x01, 0xB1  # X = a constant, or the length of the IPv4 header at an offset
_SHIFT_RIGHT, _EQUAL, _ANY_BIT, _RETURN = 0x74, 0x15, 0x45, 0x06

# Code, operand, and the labels to jump to if true and if false ("": the next instruction).
_Instruction = tuple[int, int, str, str]
_Line = _Instruction | str  # or a label


def packet_filter(ports: frozenset[int]) -> bytes:
    """Return a program that passes UDP and TCP on these ports, and fragments. Packets begin at their IP header."""
    return _assemble(
        [
            (_LOAD_BYTE, 0, "", ""),
            (_SHIFT_RIGHT, 4, "", ""),
            (_EQUAL, _IPV4, "IPv4", ""),
            (_EQUAL, _IPV6, "", "drop"),
            (_LOAD_X, 40, "", ""),
            (_LOAD_BYTE, 6, "", ""),
            *((_EQUAL, header, "pass", "") for header in _EXTENSIONS),
            (_EQUAL, _UDP, "ports", ""),
            (_EQUAL, _TCP, "ports", "drop"),
            "IPv4",
            (_LOAD_X_IHL, 0, "", ""),
            (_LOAD_BYTE, 9, "", ""),
            (_EQUAL, _UDP, "fragments", ""),
            (_EQUAL, _TCP, "fragments", "drop"),
            "fragments",
            (_LOAD_HALF, 6, "", ""),
            (_ANY_BIT, _FRAGMENT, "pass", ""),
            "ports",
            (_LOAD_HALF_X, 0, "", ""),
            *((_EQUAL, port, "pass", "") for port in sorted(ports)),
            (_LOAD_HALF_X, 2, "", ""),
            *((_EQUAL, port, "pass", "") for port in sorted(ports)),
            "drop",
            (_RETURN, 0, "", ""),
            "pass",
            (_RETURN, MAX_PACKET, "", ""),
        ]
    )


def _assemble(lines: list[_Line]) -> bytes:
    """Return the instructions as bytes, with each label as the distance that a jump skips."""
    labels: dict[str, int] = {}
    instructions: list[_Instruction] = []
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(instructions)
        else:
            instructions.append(line)
    return b"".join(
        struct.pack("@HBBI", code, *(labels[to] - place - 1 if to else 0 for to in (true, false)), operand)
        for place, (code, operand, true, false) in enumerate(instructions)
    )
