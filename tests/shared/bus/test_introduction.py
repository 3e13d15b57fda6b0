"""The introduction of a client: the worker receives the user first, and every other byte as it was sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnstrail.bus.client_bytes import USER, Introduction
from live.raw_peer import GREETING, frame, ready

PROPERTY = bytes([len(USER)]) + USER.encode() + (4).to_bytes(4, "big") + b"1000"
READY = ready(b"REQ")
LONG_READY = b"\x06" + (len(READY) - 2).to_bytes(8, "big") + READY[2:]
IDENTITY = b"\x08Identity" + (210).to_bytes(4, "big") + bytes(210)
NEARLY_LONG = b"\x04" + bytes([len(READY) - 2 + len(IDENTITY)]) + READY[2:] + IDENTITY
ZMTP_2 = b"\xff" + bytes(8) + b"\x7f\x01\x03"


def introduced(begin, said):
    """Return READY with the property before what the client said."""
    body = b"\x05READY" + PROPERTY + said
    if begin == 4:
        return b"\x04" + bytes([len(body)]) + body
    return b"\x06" + len(body).to_bytes(8, "big") + body


CASES = {
    "READY": (GREETING + READY, GREETING + introduced(4, READY[8:])),
    "a long READY": (GREETING + LONG_READY, GREETING + introduced(6, READY[8:])),
    "READY that becomes long": (GREETING + NEARLY_LONG, GREETING + introduced(6, READY[8:] + IDENTITY)),
    "another command": (GREETING + b"\x04\x07\x05ERROR\0", GREETING + b"\x04\x07\x05ERROR\0"),
    "a short frame, then more": (GREETING + frame(b"") + frame(bytes(9)), GREETING + frame(b"") + frame(bytes(9))),
    "ZMTP 2": (ZMTP_2 + b"\0\0" + frame(b"request"), ZMTP_2 + b"\0\0" + frame(b"request")),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"),
}


@pytest.mark.parametrize(("sent", "expected"), CASES.values(), ids=CASES)
@given(data=st.data())
def test_the_user_is_named_first_however_the_bytes_are_divided(sent, expected, data):
    """READY gains one property, before its own; the bytes before and behind it stay."""
    sent, expected = sent + READY + b"tail", expected + READY + b"tail"
    introduction, passed, at = Introduction(1000), b"", 0
    while at < len(sent):
        size = data.draw(st.integers(1, 40))
        passed += introduction.add_to(sent[at : at + size])
        at += size
    assert passed == expected


def test_a_greeting_is_passed_on_at_once():
    """Both ends wait for parts of it before they send more."""
    introduction = Introduction(0)
    assert all(introduction.add_to(bytes([byte])) == bytes([byte]) for byte in GREETING)
