"""The usual datagram, read in one step, is the one that the step-by-step reading finds."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from dnstrail.captured import Flow
from dnstrail_probe.packets.assembly import usual_datagram
from dnstrail_probe.packets.packet import Datagram, ip_packet, transport

ETHERNET, RAW, RAW_V6, PORTS = 1, 101, 229, frozenset({53})
DATAGRAM = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=53, dport=4000) / b"payload"
FLOW = Flow(b"\xc0\x00\x02\x01", 53, b"\xc0\x00\x02\x02", 4000)
FRAMES = {
    "ethernet": (ETHERNET, bytes(Ether() / DATAGRAM)),
    "vlan": (ETHERNET, bytes(Ether() / Dot1Q(vlan=7) / DATAGRAM)),
    "raw": (RAW, bytes(DATAGRAM)),
}
WHOLE = bytes(DATAGRAM)
PLACES = {"first": ("B", 0), "total": ("!H", 2), "flags": ("!H", 6), "protocol": ("B", 9), "length": ("!H", 24)}


def changed(**fields: int) -> bytes:
    """Return the raw datagram with other values in its IP header (`total`, `flags`, ...), or in its UDP header."""
    frame = bytearray(WHOLE)
    for name, value in fields.items():
        form, place = PLACES[name]
        struct.pack_into(form, frame, place, value)
    return bytes(frame)


OTHERS = {
    "the first fragment": (RAW, changed(flags=0x2000)),
    "a later fragment": (RAW, changed(flags=0x0001)),
    "IP options": (RAW, changed(first=0x46)),
    "another version": (RAW, changed(first=0x55)),
    "a link type of IPv6": (RAW_V6, WHOLE),
    "an unknown link type": (147, WHOLE),
    "no IP": (ETHERNET, bytes(Ether(type=0x0806) / DATAGRAM)),
    "another protocol": (RAW, changed(protocol=6)),
    "no payload": (RAW, changed(total=28, length=8)),
    "a UDP length that is too small": (RAW, changed(total=27, length=7)),
    "a UDP length of 0": (RAW, changed(total=20, length=0)),
    "a packet that is longer than its datagram": (RAW, changed(length=12)),
    "a packet that is shorter than its datagram": (RAW, changed(total=30)),
    "a total length of 0": (RAW, changed(total=0)),
    "a frame that ends behind the headers": (RAW, WHOLE[:28]),
    "a frame that ends within the headers": (RAW, WHOLE[:27]),
    "other ports": (RAW, bytes(IP() / UDP(sport=4000, dport=4001) / b"payload")),
}
CHANGES = st.lists(st.tuples(st.integers(0, 60), st.sampled_from([0, 1, 6, 8, 17, 20, 53, 0x40, 0x45, 0x46, 255])))


def step_by_step(linktype: int, frame: bytes) -> tuple[Flow, bytes] | None:
    packet = ip_packet(linktype, frame)
    if isinstance(packet, str) or packet.fragment:
        return None
    found = transport(packet, PORTS)
    if not isinstance(found, Datagram) or not found.payload:
        return None
    return Flow(found.source, found.source_port, found.destination, found.destination_port), found.payload


def test_usual_frames_are_read_in_one_step():
    """A frame of each usual kind yields its flow and payload, also if its end is missing or padded."""
    for linktype, frame in FRAMES.values():
        assert usual_datagram(linktype, frame, PORTS) == (FLOW, b"payload")
        assert usual_datagram(linktype, frame + bytes(18), PORTS) == (FLOW, b"payload")
        assert usual_datagram(linktype, frame[:-3], PORTS) == (FLOW, b"payl")


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_frame_is_left_to_the_steps(name):
    """A frame that is not usual is not read in one step."""
    assert usual_datagram(*OTHERS[name], PORTS) is None


@given(st.sampled_from([*FRAMES.values(), (RAW_V6, bytes(DATAGRAM))]), CHANGES, st.integers(0, 70))
def test_no_frame_is_read_otherwise_than_step_by_step(
    found: tuple[int, bytes], changes: list[tuple[int, int]], end: int
):
    """A frame with changed bytes, cut or padded, yields what the steps yield, or is left to them."""
    linktype, whole = found
    frame = bytearray(whole.ljust(61, b"\0"))
    for place, value in changes:
        frame[place] = value
    usual = usual_datagram(linktype, bytes(frame[:end]), PORTS)
    assert usual in (None, step_by_step(linktype, bytes(frame[:end])))
