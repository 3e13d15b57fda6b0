"""The classic BPF program that keeps all packets but those with DNS from the AF_PACKET socket (linux/filter.h)."""

from __future__ import annotations

import struct

MAX_PACKET = 65536  # bytes of a packet
_IPV4, _IPV6 = 4, 6
_TCP, _UDP = 6, 17
_EXTENSIONS = (0, 43, 44, 51, 60)  # IPv6 headers behind which anything may be: kept
_FRAGMENT = 0x3FFF  # of IPv4: an offset, or more to come

_SYN, _PUSH = 0x02, 0x08
_SEGMENT = 1460  # bytes of payload in an Ethernet frame
_HANDSHAKE = 0x1603  # a TLS record
_METHODS = (b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"DELE", b"PATC")

_LOAD_BYTE, _LOAD_HALF, _LOAD_LENGTH = 0x30, 0x28, 0x80
_LOAD_BYTE_X, _LOAD_HALF_X, _LOAD_WORD_X = 0x50, 0x48, 0x40
_LOAD_X, _LOAD_X_IHL = 0x01, 0xB1  # a constant, or the length of the IPv4 header at an offset
_STORE, _LOAD_STORED, _TO_X = 0x02, 0x60, 0x07
_AND, _SHIFT_RIGHT, _ADD_X, _SUBTRACT_X = 0x54, 0x74, 0x0C, 0x1C
_EQUAL, _FROM, _ANY_BIT, _RETURN = 0x15, 0x35, 0x45, 0x06
_PROTOCOL, _FLAGS = 0, 1  # where they are stored

# Code, operand, and the labels to go to if true and if false ("": the next instruction).
_Instruction = tuple[int, int, str, str]
_Line = _Instruction | str  # or a label


def packet_filter(ports: frozenset[int], *, first_bytes: bool = False) -> bytes:
    """A program that lets UDP and TCP on these ports pass, and fragments; for a socket that gives IP packets.

    `first_bytes`: of all other TCP also what begins a connection, as far as that can be told without a memory:
    the SYN, what begins as a ClientHello or a request does, and whatever is pushed in a segment that is not full.
    """
    return _assemble(
        [
            (_LOAD_BYTE, 0, "", ""),
            (_SHIFT_RIGHT, 4, "", ""),
            (_EQUAL, _IPV4, "IPv4", ""),
            (_EQUAL, _IPV6, "", "drop"),
            (_LOAD_X, 40, "", ""),
            (_LOAD_BYTE, 6, "", ""),
            (_STORE, _PROTOCOL, "", ""),
            *((_EQUAL, header, "keep", "") for header in _EXTENSIONS),
            (_EQUAL, _UDP, "ports", ""),
            (_EQUAL, _TCP, "ports", "drop"),
            "IPv4",
            (_LOAD_X_IHL, 0, "", ""),
            (_LOAD_BYTE, 9, "", ""),
            (_STORE, _PROTOCOL, "", ""),
            (_EQUAL, _UDP, "whole", ""),
            (_EQUAL, _TCP, "whole", "drop"),
            "whole",
            (_LOAD_HALF, 6, "", ""),
            (_ANY_BIT, _FRAGMENT, "keep", ""),
            "ports",
            (_LOAD_HALF_X, 0, "", ""),
            *((_EQUAL, port, "keep", "") for port in sorted(ports)),
            (_LOAD_HALF_X, 2, "", ""),
            *((_EQUAL, port, "keep", "") for port in sorted(ports)),
            *(_BEGINNINGS if first_bytes else ()),
            "drop",
            (_RETURN, 0, "", ""),
            "keep",
            (_RETURN, MAX_PACKET, "", ""),
        ]
    )


_BEGINNINGS: tuple[_Line, ...] = (
    (_LOAD_STORED, _PROTOCOL, "", ""),
    (_EQUAL, _TCP, "", "drop"),
    (_LOAD_BYTE_X, 13, "", ""),
    (_ANY_BIT, _SYN, "keep", ""),
    (_STORE, _FLAGS, "", ""),
    (_LOAD_BYTE_X, 12, "", ""),
    (_AND, 0xF0, "", ""),
    (_SHIFT_RIGHT, 2, "", ""),
    (_ADD_X, 0, "", ""),
    (_TO_X, 0, "", ""),  # where the payload begins
    (_LOAD_LENGTH, 0, "", ""),
    (_SUBTRACT_X, 0, "", ""),
    (_EQUAL, 0, "drop", ""),
    (_FROM, _SEGMENT, "full", ""),
    (_LOAD_STORED, _FLAGS, "", ""),
    (_ANY_BIT, _PUSH, "keep", ""),
    "full",
    (_LOAD_HALF_X, 0, "", ""),  # a load behind the end drops the packet
    (_EQUAL, _HANDSHAKE, "keep", ""),
    (_LOAD_WORD_X, 0, "", ""),
    *((_EQUAL, int.from_bytes(method), "keep", "") for method in _METHODS),
)


def _assemble(lines: list[_Line]) -> bytes:
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
