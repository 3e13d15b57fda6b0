"""Tests of dnstrail_probe.packets.server_names.quic_version."""

from __future__ import annotations

import random
import sys
from collections import Counter

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicProtocolVersion
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP

from dnstrail.capture_options import CaptureOptions
from dnstrail.captured import Captured, Flow
from dnstrail.events import NET_SERVER_NAME
from dnstrail_probe.packets import assembly
from dnstrail_probe.packets.assembly import Assembly
from dnstrail_probe.packets.server_names import quic_initial
from dnstrail_probe.packets.server_names.quic_hellos import IDLE, OPEN, PIECES, RATE, QuicHellos
from dnstrail_probe.packets.server_names.quic_initial import FRAMES, read_initials
from dnstrail_probe.packets.server_names.reader import SNI, ServerName

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
NAME = "www.example.com"
CONNECTION_ID = bytes(range(8))
CLIENT, SERVER = b"\x0a\0\0\2", b"\xc0\0\2\1"
VERSIONS = [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2]
# RFC 9001, appendix A.2: the client's first packet to example.com.
RFC_ID = bytes.fromhex("8394c8f03e515708")
RFC_HELLO = bytes.fromhex(
    "010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c000004130113020100"
    "00c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e"
    "000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748"
    "002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff"
    "05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff"
)


def first_datagrams(name: str | None = NAME, version: int = VERSIONS[0], **more: object) -> list[bytes]:
    """Return the first flight that a real client sends."""
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=["h3"],
        server_name=name,
        original_version=version,
        supported_versions=VERSIONS,
        **more,
    )
    client = QuicConnection(configuration=configuration)
    client.connect(("192.0.2.1", 443), now=0.0)
    return [data for data, _ in client.datagrams_to_send(now=0.0)]


def varint(value: int) -> bytes:
    return (value | 0x4000).to_bytes(2)


def crypto(offset: int, data: bytes) -> bytes:
    return b"\6" + varint(offset) + varint(len(data)) + data


def sealed(*frames: bytes, connection_id: bytes = CONNECTION_ID, number: int = 0, least: int = 1162) -> bytes:
    """Return an Initial packet of version 1 with these frames, sealed by aioquic."""
    payload = b"".join(frames).ljust(least, b"\0")
    pair = CryptoPair()
    pair.setup_initial(connection_id, is_client=True, version=VERSIONS[0])
    header = b"\xc3\0\0\0\1" + bytes([len(connection_id)]) + connection_id + b"\0\0" + varint(4 + len(payload) + 16)
    return pair.encrypt_packet(header + number.to_bytes(4), payload, number)


class Reader:
    """A reader, and what it has counted and found."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.hellos = QuicHellos(self.counters)

    def take(self, datagram: bytes, *, port: int = 40_000, at: int = START, back: bool = False) -> list[ServerName]:
        flow = Flow(SERVER, 443, CLIENT, port) if back else Flow(CLIENT, port, SERVER, 443)
        return [name for _, name in self.hellos.add(Captured(at, datagram, flow))]


@pytest.fixture
def reader() -> Reader:
    return Reader()


@pytest.mark.parametrize("version", VERSIONS)
def test_name_of_a_real_client_is_found(reader, version):
    """The name is in the first datagram of aioquic, for both versions."""
    assert [name for one in first_datagrams(version=version) for name in reader.take(one)] == [ServerName(NAME, SNI)]
    assert not reader.counters


def test_hello_of_the_rfc_is_read(reader):
    """The ClientHello of RFC 9001, appendix A.2, states example.com."""
    assert reader.take(sealed(crypto(0, RFC_HELLO), connection_id=RFC_ID, number=2)) == [ServerName("example.com", SNI)]


def test_client_without_a_name_is_counted(reader):
    """A client that states no name yields none."""
    assert [reader.take(one) for one in first_datagrams(None)] == [[]]
    assert reader.counters == {"server_name_none": 1}


@given(st.randoms(use_true_random=False), st.integers(2, 30))
def test_frames_may_arrive_in_any_order(shuffler: random.Random, pieces: int):
    """A ClientHello in shuffled frames, split over two datagrams, is put together, as Chromium sends it."""
    cuts = sorted(shuffler.sample(range(1, len(RFC_HELLO)), pieces - 1))
    frames = [crypto(a, RFC_HELLO[a:b]) for a, b in zip([0, *cuts], [*cuts, len(RFC_HELLO)], strict=True)]
    shuffler.shuffle(frames)
    reader = Reader()
    half = pieces // 2
    found = [*reader.take(sealed(*frames[:half])), *reader.take(sealed(b"\1", *frames[half:], number=1))]
    assert found == [ServerName("example.com", SNI)]


def test_acknowledgements_are_passed_over(reader):
    """A packet can acknowledge others before its handshake bytes."""
    acks = b"\2\0\0\1\0\0\0" + b"\3\0\0\0\0\1\1\1"
    assert reader.take(sealed(acks, crypto(0, RFC_HELLO))) == [ServerName("example.com", SNI)]


def test_name_is_reported_once(reader):
    """A client that sends its ClientHello again, and its server's answers, yield nothing more."""
    first = first_datagrams()
    assert reader.take(first[0])
    assert reader.take(first[0]) == []
    assert reader.take(sealed(crypto(0, RFC_HELLO)), back=True) == []
    assert reader.take(b"\xc0\0\0\0\1\x08server-i\0\0\x44\x96" + bytes(1200)) == []
    assert not reader.counters


HOSTILE = {
    "zeros behind the version": b"\xc0\0\0\0\1" + bytes(1300),
    "ones": b"\xc0\0\0\0\1" + b"\xff" * 1300,
    "another connection id": sealed(crypto(0, RFC_HELLO))[:6] + b"x" + sealed(crypto(0, RFC_HELLO))[7:],
    "a changed byte": sealed(crypto(0, RFC_HELLO))[:-1] + b"x",
    "a length past the end": sealed(crypto(0, RFC_HELLO))[:-1],
    "a frame cut short": sealed(b"\6\x40", least=1),
    "endless acknowledgements": sealed(b"\2\0\0\xff\xff\xff\xff\xff\xff\xff\xff"),
}
COUNTED = {
    "another handshake message": (sealed(crypto(0, b"\2" + RFC_HELLO[1:])), "quic_unreadable"),
    "a ClientHello of 16 MiB": (sealed(crypto(0, b"\1\xff\xff\xff" + bytes(100))), "server_name_incomplete"),
    "bytes far ahead": (sealed(b"\6\x80\0\x40\0\x01x"), "quic_unreadable"),
    "too many pieces": (sealed(*(crypto(2 * at, b"x") for at in range(1, PIECES + 2))), "quic_unreadable"),
    "a ClientHello that ends too soon": (sealed(crypto(0, RFC_HELLO[:-1])), "server_name_incomplete"),
}


@pytest.mark.parametrize("datagram", HOSTILE.values(), ids=HOSTILE)
def test_hostile_datagram_is_counted(reader, datagram):
    """A datagram that cannot be read is counted, and the next client is read."""
    assert reader.take(datagram) == []
    assert reader.counters == {"quic_undecryptable": 1}
    assert reader.take(first_datagrams()[0], port=40_001)


@pytest.mark.parametrize(("datagram", "counter"), COUNTED.values(), ids=COUNTED)
def test_hostile_handshake_is_counted(reader, datagram, counter):
    """A handshake that yields no name is counted at the latest when its client is forgotten."""
    assert reader.take(datagram) == []
    reader.hellos.finish()
    assert reader.counters == {counter: 1}


def test_clients_are_bounded(reader):
    """Beyond `OPEN` clients the oldest goes, and is counted if its name was not found."""
    begun = sealed(crypto(0, RFC_HELLO[:50]))
    for number in range(OPEN + 1):
        reader.take(begun, port=1 + number)
    assert reader.counters == {"server_name_incomplete": 1}
    reader.take(b"", at=START + IDLE + 1)
    assert reader.counters["server_name_incomplete"] == OPEN + 1


def test_rate_is_bounded(reader):
    """In one second at most `RATE` datagrams are decrypted; the rest is counted, and the next second is read."""
    garbage = HOSTILE["ones"]
    for _ in range(RATE + 3):
        reader.take(garbage)
    assert reader.counters == {"quic_undecryptable": RATE, "quic_over_rate": 3}
    assert reader.take(first_datagrams()[0], at=START + SECOND)


def test_long_datagrams_count_more(reader):
    """The rate counts bytes, too: a datagram of 15,000 bytes counts like eleven short ones."""
    garbage = b"\xc0\0\0\0\1".ljust(15_000, b"\xff")
    for _ in range(RATE):
        reader.take(garbage)
    assert reader.counters == {"quic_undecryptable": RATE // 11, "quic_over_rate": RATE - RATE // 11}


def lines_run(datagram: bytes) -> int:
    """Return the number of lines of `quic_initial` that run until the frames of a datagram are read."""
    lines = 0

    def trace(frame, event, _):
        nonlocal lines
        lines += event == "line"
        return trace if frame.f_code.co_filename == quic_initial.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        read_initials(datagram)
    finally:
        sys.settrace(before)
    return lines


LONG = {
    "pings": b"\1" * 16_000,
    "padding": bytes(16_000),
    "padding between pings": b"\1\0\0" * 5_000,
    "empty frames": b"\6\0\0" * 5_000,
    "acknowledgements": b"\2\0\0\0\0" * 3_000,
    "ranges": b"\2\0\0" + varint(7_000) + bytes(15_000),
    "acknowledgements of many ranges": (b"\2\0\0\x3c" + bytes(121)) * 120,
}


@pytest.mark.parametrize("frames", LONG.values(), ids=LONG)
def test_work_for_a_long_datagram_is_bounded(frames):
    """The steps for a datagram are bounded by `FRAMES`, whatever it is filled with."""
    assert lines_run(sealed(frames)) < 100 + 20 * FRAMES


@pytest.mark.parametrize("frames", [b"\6\0\0" * (FRAMES + 1), b"\2\0\0\x3f" + bytes(127), b"\2\0\0\0\0" * FRAMES])
def test_datagram_of_too_many_frames_is_counted(reader, frames):
    """Beyond `FRAMES` frames and ranges a datagram is unreadable, and its client is not read further."""
    assert reader.take(sealed(frames, crypto(0, RFC_HELLO))) == []
    assert reader.take(sealed(crypto(0, RFC_HELLO))) == []
    reader.hellos.finish()
    assert reader.counters == {"quic_unreadable": 1}


def test_frames_of_all_packets_count(reader):
    """The packets of one datagram share `FRAMES`."""
    empty = sealed(b"\6\0\0" * (FRAMES // 2))
    assert reader.take(empty + empty + sealed(crypto(0, RFC_HELLO))) == []
    assert reader.counters == {"quic_unreadable": 1}


def test_empty_frames_are_no_pieces(reader):
    """CRYPTO frames without bytes leave room for `PIECES` others."""
    assert reader.take(sealed(*(crypto(place, b"") for place in range(1, PIECES)))) == []
    halves = crypto(0, RFC_HELLO[:100]) + crypto(100, RFC_HELLO[100:])
    assert reader.take(sealed(halves, number=1)) == [ServerName("example.com", SNI)]


def test_padding_and_pings_are_no_frames(reader):
    """Any number of PADDING and PING frames, and as many others as are allowed, may come before the ClientHello."""
    frames = b"\1\0\1" * 300 + b"\6\0\0" * (FRAMES - 1)
    assert reader.take(sealed(frames, crypto(0, RFC_HELLO))) == [ServerName("example.com", SNI)]


def test_packets_of_one_datagram_are_bounded():
    """Of a datagram full of small packets only the first are decrypted."""
    assert len(read_initials(sealed(b"\1", least=20) * 1_000)) == 4


def frame(datagram: bytes) -> bytes:
    return bytes(IP(src="10.0.0.2", dst="192.0.2.1") / UDP(sport=40_000, dport=8443) / datagram)


def test_file_yields_the_name_of_a_quic_client():
    """The packets of a file are searched, whatever the port."""
    packets = Assembly(CaptureOptions(server_names=True), Counter())
    found = [event for one in first_datagrams() for event in packets.frame(START, 101, frame(one))]
    assert [(topic, event.args) for topic, event in found] == [
        (NET_SERVER_NAME, {"server_name": NAME, "evidence": SNI})
    ]
    assert found[0][1].flow == Flow(b"\x0a\0\0\2", 40_000, b"\xc0\0\2\1", 8443)


def test_missing_extra_is_counted(monkeypatch):
    """Without `cryptography` a QUIC client is counted, and nothing fails."""
    monkeypatch.setattr(assembly, "find_spec", lambda _: None)
    counters: Counter[str] = Counter()
    packets = Assembly(CaptureOptions(server_names=True), counters)
    assert [packets.frame(START, 101, frame(one)) for one in first_datagrams()] == [[]]
    assert counters["quic_not_read"] == 1
