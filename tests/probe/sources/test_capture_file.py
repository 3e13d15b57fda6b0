from __future__ import annotations

import struct

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6

from builders import capture_files
from builders.capture_files import enhanced, interface, option, section
from builders.dnstap_builders import START, STOP, framed, tap
from dnstrail.capture_options import CaptureOptions
from dnstrail.captured import LAST_TIME, Captured, Flow
from dnstrail.errors import CaptureError
from dnstrail_probe.registry import open_source
from dnstrail_probe.sources.capture_file import CaptureFileSource

IP4 = IP(src="192.0.2.1", dst="192.0.2.2")
PLACE = struct.Struct("<IIII")


def pcap(*frames, linktype=101):
    """Return a pcap file with a packet for each second."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, linktype)
    frames = [bytes(frame) for frame in frames]
    return head + b"".join(PLACE.pack(n, n, len(frame), len(frame)) + frame for n, frame in enumerate(frames, 1))


def drain(source):
    events = []
    while (batch := source.read(1)) is not None:
        events += [event for _, event in batch]
    source.close()
    return events


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.pcap"


def test_messages_come_with_their_time_and_flow(path):
    """A message keeps its time stamp in nanoseconds and the addresses and ports of its packet."""
    path.write_bytes(
        pcap(
            IP4 / UDP(sport=4000, dport=53) / b"query",
            IPv6(src="::1", dst="::2") / UDP(sport=53, dport=4001) / b"answer",
        )
    )
    assert drain(CaptureFileSource(str(path))) == [
        Captured(1_000_001_000, b"query", Flow(b"\xc0\0\2\1", 4000, b"\xc0\0\2\2", 53, "udp")),
        Captured(2_000_002_000, b"answer", Flow(bytes(15) + b"\1", 53, bytes(15) + b"\2", 4001, "udp")),
    ]


def test_everything_passed_over_is_counted(path):
    """Every packet becomes a message or is counted by reason; a SYN also becomes a connection event."""
    path.write_bytes(
        pcap(
            IP4 / UDP(sport=4000, dport=53) / b"query",
            IP4 / UDP(sport=4000, dport=53),
            IP4 / UDP(sport=4000, dport=5353) / b"query",
            IP4 / TCP(sport=4000, dport=53, flags="A"),
            IP4 / TCP(sport=4000, dport=443),
            IP(src="192.0.2.1", dst="192.0.2.2", flags="MF") / UDP(sport=4000, dport=53) / b"question",
            b"\0no packet",
        )
    )
    source = CaptureFileSource(str(path))
    assert len(drain(source)) == 2
    assert source.counters == {
        "packets": 7,
        "empty_payload": 1,
        "other_port": 2,
        "tcp_without_data": 1,
        "fragments": 1,
        "fragment_incomplete": 1,
        "not_ip": 1,
    }


def test_ports_are_a_choice(path):
    """Messages are read on the ports that the options name."""
    path.write_bytes(pcap(IP4 / UDP(sport=4000, dport=53000) / b"query", IP4 / UDP(sport=4000, dport=53) / b"no"))
    assert [event.payload for event in drain(CaptureFileSource(str(path), CaptureOptions(frozenset({53000}))))] == [
        b"query"
    ]


def test_a_capture_cut_short_is_reported(path):
    """The packets before the cut count, and the cut is reported and counted once."""
    path.write_bytes(pcap(IP4 / UDP(sport=4000, dport=53) / b"query", b"second")[:-1])
    source = CaptureFileSource(str(path))
    assert len(drain(source)) == 1
    assert source.read(0) is None
    assert source.counters == {"packets": 1, "file_cut_short": 1}


def test_a_damaged_capture_is_reported(path):
    """Damage is reported and counted under a reason of its own."""
    path.write_bytes(pcap() + PLACE.pack(0, 0, 0xFFFFFFFF, 0))
    source = CaptureFileSource(str(path))
    assert drain(source) == []
    assert source.counters == {"packets": 0, "file_damaged": 1}


def test_a_time_past_all_clocks_is_passed_over(path):
    """A packet whose time does not fit in 64 bits of nanoseconds is counted and skipped."""
    frame = bytes(IP4 / UDP(sport=4000, dport=53) / b"query123")
    section = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    interface = struct.pack("<IIHHIHHB3xI", 1, 28, 101, 0, 0, 9, 1, 0, 28)  # its unit is a second
    size = 32 + len(frame)
    packet = struct.pack("<IIIIIII", 6, size, 0, 1 << 31, 0, len(frame), len(frame)) + frame + struct.pack("<I", size)
    path.write_bytes(section + interface + packet)
    source = CaptureFileSource(str(path))
    assert drain(source) == []
    assert source.counters == {"packets": 1, "bad_timestamp": 1}


def test_the_last_time_counts(path):
    """A packet at the last time that the image holds counts, and one a nanosecond later does not."""
    frame = bytes(IP4 / UDP(sport=4000, dport=53) / b"query")
    nanoseconds = interface(101, option(9, b"\x09"))
    path.write_bytes(section() + nanoseconds + enhanced(LAST_TIME, frame) + enhanced(LAST_TIME + 1, frame))
    source = CaptureFileSource(str(path))
    assert [event.timestamp for event in drain(source)] == [LAST_TIME]
    assert source.counters == {"packets": 2, "bad_timestamp": 1}


def test_the_last_time_counts_in_dnstap(path):
    """A dnstap message of the last second counts, and one of the next second does not."""
    last = LAST_TIME // 10**9
    frames = [tap("CLIENT_QUERY", query_message=b"query", query_time_sec=last + more) for more in (0, 1)]
    path.write_bytes(START + framed(*frames) + STOP)
    source = CaptureFileSource(str(path))
    assert [event.timestamp for event in drain(source)] == [last * 10**9]
    assert source.counters == {"packets": 2, "bad_timestamp": 1}


def test_every_stamp_of_a_pcap_file_counts(path):
    """The last time lies after the largest stamp of a pcap file."""
    frame = bytes(IP4 / UDP(sport=4000, dport=53) / b"query")
    path.write_bytes(capture_files.pcap((2**32 - 1, 2**32 - 1, frame), linktype=101))
    assert len(drain(CaptureFileSource(str(path)))) == 1


def test_a_gap_is_given_up_by_the_time_of_any_packet(path):
    """A message after a gap in a TCP stream comes before packets that are later than the wait for a segment."""
    message = bytes(12) + b"after the gap"
    segments = [
        IP4 / TCP(sport=4000, dport=53, seq=100, flags="S"),
        IP4 / TCP(sport=4000, dport=53, seq=151, flags="PA") / (len(message).to_bytes(2) + message),
    ]
    later = [IP4 / UDP(sport=4000, dport=53) / text for text in (b"within the wait", b"after the wait")]
    frames = [bytes(frame) for frame in (*segments, *later)]
    path.write_bytes(capture_files.pcap(*zip((1, 1, 6, 7), (0, 0, 0, 0), frames, strict=True), linktype=101))
    assert [event.payload for event in drain(CaptureFileSource(str(path))) if event.payload] == [
        b"within the wait",
        message,
        b"after the wait",
    ]


def test_a_path_opens_a_capture_file(path):
    """A word that names no other source is the path of a capture file, which is not live."""
    path.write_bytes(pcap())
    source = open_source(str(path))
    assert (source.name, source.live) == (f"capture file {path}", False)
    source.close()


def test_a_file_that_is_no_capture_is_refused(path):
    """A file that is no capture is a CaptureError that names the file."""
    path.write_bytes(b"something else")
    with pytest.raises(CaptureError, match=str(path)):
        open_source(str(path))


FDDI = 10


def test_a_capture_of_an_unknown_link_type_is_an_error(path):
    """A capture in which no packet can be decoded is an error at its end, which names the link type."""
    path.write_bytes(pcap(b"one", b"two", linktype=FDDI))
    source = CaptureFileSource(str(path))
    assert source.read(1) == []
    with pytest.raises(CaptureError, match="link type 10 is not supported"):
        source.read(1)
    assert source.read(1) is None
    source.close()


def test_a_capture_with_some_packets_of_an_unknown_link_type_is_read(path):
    """Packets of an unknown link type are counted where other packets of the capture can be read."""
    query = bytes(IP4 / UDP(sport=4000, dport=53) / b"query")
    frames = [enhanced(1, b"unknown", 0), enhanced(2, query, 1)]
    path.write_bytes(section() + interface(FDDI) + interface(101) + b"".join(frames))
    source = CaptureFileSource(str(path))
    assert [event.payload for event in drain(source)] == [b"query"]
    assert source.counters["link_type_not_supported"] == 1


def test_a_capture_without_packets_is_no_error(path):
    """An empty capture is read to its end, whatever its link type."""
    path.write_bytes(pcap(linktype=FDDI))
    assert drain(CaptureFileSource(str(path))) == []
