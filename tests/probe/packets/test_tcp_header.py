from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from dnstrail_probe.packets.tcp_header import TcpHeader, read_tcp

OPTIONS = {
    "none": ([], None),
    "a scale": ([("WScale", 7)], 7),
    "a scale after others": ([("MSS", 1460), ("NOP", None), ("SAckOK", b""), ("WScale", 9)], 9),
    "a scale beyond 14": ([("WScale", 200)], 14),
    "a scale after the end": ([("EOL", None), ("WScale", 7)], None),
    "a length of 0": ([(253, b"")], None),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_a_syn_has_its_window_scale(case):
    """The window scale of a SYN is found behind other options, and is at most 14 (RFC 7323)."""
    options, scale = OPTIONS[case]
    header, payload = read_tcp(bytes(TCP(seq=7, ack=9, flags="S", window=500, options=options) / b"data"))
    assert (header, payload) == (TcpHeader(7, 9, 2, 500, scale), b"data")


def test_only_a_syn_has_a_window_scale():
    """The option counts in no other segment."""
    header, _ = read_tcp(bytes(TCP(flags="A", options=[("WScale", 7)])))
    assert header.scale is None


@given(st.binary(max_size=80))
def test_any_bytes_are_taken(data):
    """Arbitrary bytes yield a header or a reason."""
    found = read_tcp(data)
    assert found in ("header_cut", "bad_header") if isinstance(found, str) else found[0].scale in {*range(15), None}
