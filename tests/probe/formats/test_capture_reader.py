"""Tests of dnstrail_probe.formats.pcap."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap, wrpcapng

from builders.capture_files import (
    MICRO,
    MODIFIED,
    NANO,
    block,
    enhanced,
    interface,
    obsolete,
    option,
    pcap,
    section,
    simple,
)
from builders.dnstap_builders import START, STOP, framed
from dnstrail.errors import CaptureError
from dnstrail_probe.formats.capture_reader import CaptureReader
from dnstrail_probe.formats.frame_stream import READY, control_frame
from dnstrail_probe.formats.pcap import DNSTAP
from dnstrail_probe.source import CUT_SHORT, DAMAGED

SECOND = 10**9
IN_2077 = 3_400_000_000  # seconds, past 2^31
ORDERS = {"little-endian": "<", "big-endian": ">"}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Return a function that reads bytes as a file: its packets, and its damage."""
    path = tmp_path_factory.mktemp("captures") / "x.pcap"

    def read(data):
        path.write_bytes(data)
        reader = CaptureReader(path)
        packets = []
        while (batch := reader.read()) is not None:
            packets += batch
        reader.close()
        return packets, reader.damage

    return read


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize(("magic", "unit"), [(MICRO, 1000), (NANO, 1), (MODIFIED, 1000)])
def test_pcap(read, order, magic, unit):
    """Each variant of pcap, in both byte orders, gives exact nanoseconds, the link type and the frames."""
    data = pcap((IN_2077, 123_456, b"one"), (7, 0, b""), order=order, magic=magic, linktype=113)
    assert read(data) == ([(IN_2077 * SECOND + 123_456 * unit, 113, b"one"), (7 * SECOND, 113, b"")], "")


def test_pcap_without_packets(read):
    """A header alone is an empty capture, not a damaged one."""
    assert read(pcap()) == ([], "")


def test_pcap_link_type_is_16_bits(read):
    """The bits above the link type, which describe frame check sequences, are not part of it."""
    assert read(pcap((1, 0, b"x"), linktype=0x24000001)) == ([(SECOND, 1, b"x")], "")


def test_large_files_are_read_in_pieces(read):
    """A large capture, with frames larger than one read, keeps every packet in its order."""
    frames = [bytes([number]) * (number * 997) for number in range(200)]
    packets, damage = read(pcap(*((number, 0, frame) for number, frame in enumerate(frames))))
    assert [frame for _, _, frame in packets] == frames
    assert damage == ""


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_pcapng(read, order):
    """Packets of several interfaces and of both packet blocks are read, and other blocks are skipped."""
    parts = [
        section(order),
        interface(1, order=order),
        block(4, b"names", order),
        interface(276, order=order),
        enhanced(1_500_000, b"first", 0, order),
        block(0x80000001, bytes(70_000), order),
        obsolete(2_000_001, b"second", 1, order),
    ]
    expected = [(1_500_000_000, 1, b"first"), (2_000_001_000, 276, b"second")]
    assert read(b"".join(parts)) == (expected, "")


RESOLUTIONS = {
    "microseconds by default": (b"", 1_000_001, 1_000_001_000),
    "nanoseconds": (option(9, b"\x09"), 3_400_000_000_123_456_789, 3_400_000_000_123_456_789),
    "picoseconds": (option(9, b"\x0c"), 1_999_999, 1_999),
    "seconds": (option(9, b"\x00"), 12, 12 * SECOND),
    "2^-10 seconds": (option(9, b"\x8a"), 1536, 1_500_000_000),
    "2^-32 seconds": (option(9, b"\xa0"), (5 << 32) + (1 << 31), 5_500_000_000),
    "an option after the end": (option(0, b"") + option(9, b"\x09"), 12, 12_000),
    "an offset": (option(2, b"eth0") + option(14, struct.pack("<q", 1000)), 1, 1000 * SECOND + 1000),
    "an offset before 1970": (option(9, b"\x00") + option(14, struct.pack("<q", -5)), 12, 7 * SECOND),
}


@pytest.mark.parametrize("case", RESOLUTIONS)
def test_pcapng_time(read, case):
    """The resolution and the offset of an interface give exact nanoseconds, rounded down."""
    options, ticks, expected = RESOLUTIONS[case]
    assert read(section() + interface(1, options) + enhanced(ticks, b"x")) == ([(expected, 1, b"x")], "")


def test_pcapng_sections_stand_alone(read):
    """A second section has its own byte order and its own interfaces."""
    first = section("<") + interface(1) + interface(113) + enhanced(1, b"a", 1)
    second = section(">") + interface(101, order=">") + enhanced(2, b"b", 0, ">")
    assert read(first + second) == ([(1000, 113, b"a"), (2000, 101, b"b")], "")
    assert read(first + section() + enhanced(3, b"c", 1)) == ([(1000, 113, b"a")], DAMAGED)


def test_pcapng_simple_packets(read):
    """A simple packet has the time of the packet before it, and at most the bytes that its interface captures."""
    data = section() + interface(snaplen=4) + simple(2, b"ab") + enhanced(9, b"x") + simple(400, b"abcd")
    assert read(data) == ([(0, 1, b"ab"), (9000, 1, b"x"), (9000, 1, b"abcd")], "")


def test_pcapng_length_without_its_padding(read):
    """A block whose length excludes its padding, as some writers make it, is read."""
    padded = enhanced(1, b"abcde")
    short = padded.replace(struct.pack("<I", len(padded)), struct.pack("<I", len(padded) - 3))
    assert read(section() + interface() + short + enhanced(2, b"x")) == (
        [(1000, 1, b"abcde"), (2000, 1, b"x")],
        "",
    )


@pytest.mark.parametrize("write", [wrpcap, wrpcapng])
def test_scapys_files(read, tmp_path, write):
    """Files that scapy writes are read with their frames and times."""
    frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x0800) / b"payload"
    frame.time = 1_700_000_000
    write(str(tmp_path / "x"), [frame])
    assert read((tmp_path / "x").read_bytes()) == ([(1_700_000_000 * SECOND, 1, bytes(frame))], "")


WHOLE = {
    "pcap": pcap((1, 0, b"whole"), (2, 0, b"last")),
    "pcapng": section() + interface() + enhanced(1_000_000, b"whole") + enhanced(2_000_000, b"last"),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_gzip_is_read_like_the_rest(read, kind, pack):
    """A gzip-compressed capture gives the packets of the plain one."""
    assert read(pack(WHOLE[kind])) == ([(SECOND, 1, b"whole"), (2 * SECOND, 1, b"last")], "")


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("cut", [1, 3, 8])
def test_a_capture_that_is_cut_short(read, kind, cut):
    """A capture that ends within a packet gives the packets before it, and is reported as cut short."""
    assert read(WHOLE[kind][:-cut]) == ([(SECOND, 1, b"whole")], CUT_SHORT)


def test_gzip_cut_short(read):
    """A compressed capture without its end gives the packets that can be unpacked, and is reported as cut short."""
    frames = [os.urandom(500) for _ in range(100)]
    packed = gzip.compress(pcap(*((1, 0, frame) for frame in frames)))
    packets, damage = read(packed[: len(packed) // 2])
    assert [frame for _, _, frame in packets] == frames[: len(packets)]
    assert (40 < len(packets) < 60, damage) == (True, CUT_SHORT)
    assert read(packed[:-4])[1] == CUT_SHORT


def test_gzip_damaged(read):
    """A compressed capture with a wrong checksum is read, and is reported as damaged."""
    packed = gzip.compress(pcap((1, 0, b"x")))
    assert read(packed[:-8] + bytes(8)) == ([(SECOND, 1, b"x")], DAMAGED)


ONE = section() + interface() + enhanced(1_000_000, b"whole")
GARBAGE = {
    "pcap: a huge record": pcap((1, 0, b"whole")) + struct.pack("<IIII", 1, 0, 0xFFFFFFFF, 0) + bytes(99),
    "pcap: a record past the limit": pcap((1, 0, b"whole"), (1, 0, bytes(262_145))),
    "pcapng: length 0": ONE + struct.pack("<II", 6, 0) + bytes(99),
    "pcapng: length 11": ONE + struct.pack("<II", 6, 11) + bytes(99),
    "pcapng: a huge length": ONE + struct.pack("<II", 6, 0xFFFFFFF0) + bytes(99),
    "pcapng: lengths that differ": ONE + struct.pack("<III", 9, 12, 16) + bytes(99),
    "pcapng: a packet block without its fields": ONE + block(6, b"abc"),
    "pcapng: a frame larger than its block": ONE + block(6, struct.pack("<5I", 0, 0, 0, 9, 9) + b"short"),
    "pcapng: an interface that is not there": ONE + enhanced(1, b"x", 1),
    "pcapng: a section of no byte order": ONE + block(0x0A0D0D0A, bytes(16)),
    "pcapng: an offset of 3 bytes": ONE + interface(options=option(14, b"abc")),
    "pcapng: a resolution of no bytes": ONE + interface(options=option(9, b"")),
}


def test_the_interfaces_of_a_section_are_bounded(read):
    """A section with more interfaces than any file has ends the reading, and bounds what a file can make us hold."""
    assert read(ONE + 65_535 * interface() + enhanced(2, b"last"))[1] == ""
    assert read(ONE + 65_536 * interface() + enhanced(2, b"last")) == ([(SECOND, 1, b"whole")], DAMAGED)


def test_the_size_of_a_block_is_bounded(read):
    """A block of 16 MiB is read, a larger one is damage."""
    assert read(ONE + block(9, bytes((1 << 24) - 12)) + enhanced(2, b"last"))[1] == ""
    assert read(ONE + block(9, bytes((1 << 24) - 8)) + enhanced(2, b"last"))[1] == DAMAGED


@pytest.mark.parametrize("case", GARBAGE)
def test_garbage_ends_the_reading(read, case):
    """Reading ends at the first bytes that are no record; the packets before them count, and the damage is reported."""
    assert read(GARBAGE[case]) == ([(SECOND, 1, b"whole")], DAMAGED)


TAPPED = START + framed(b"one", b"two")
DNSTAP_FILES = {
    "whole": (TAPPED + STOP, 2, ""),
    "without a STOP": (TAPPED, 2, ""),
    "compressed": (gzip.compress(TAPPED + STOP), 2, ""),
    "two files in one": (2 * (TAPPED + STOP), 4, ""),
    "nothing in it": (START + STOP, 0, ""),
    "cut within a frame": (TAPPED[:-1], 1, CUT_SHORT),
    "cut within a length": (TAPPED + b"\0\0", 2, CUT_SHORT),
    "garbage behind": (TAPPED + b"\xff" * 40, 2, DAMAGED),
}


@pytest.mark.parametrize("case", DNSTAP_FILES)
def test_dnstap(read, case):
    """A dnstap file gives its frames up to the damage, with a link type of their own."""
    data, count, damage = DNSTAP_FILES[case]
    frames = 2 * [(0, DNSTAP, b"one"), (0, DNSTAP, b"two")]
    assert read(data) == (frames[:count], damage)


OTHERS = {
    "an empty file": (b"", "nothing can be read"),
    "text": (b"frame\ttime\n", "starts with the bytes 6672616d"),
    "a start of dnstap cut short": (START[:30], "does not start as dnstap does"),
    "Frame Streams of other content": (START.replace(b"dnstap", b"events"), "does not start as dnstap does"),
    "zeros": (bytes(99), "does not start as dnstap does"),
    "zstd": (b"\x28\xb5\x2f\xfdabc", "decompress it first"),
    "a pcap header cut short": (pcap()[:20], "cut short within its header"),
    "an empty gzip file": (gzip.compress(b""), "nothing can be read"),
    "compressed text": (gzip.compress(b"abcdef"), "starts with the bytes 61626364"),
    "damaged gzip": (b"\x1f\x8b" + bytes(20), "nothing can be read"),
}


def test_control_frames_of_a_dnstap_file_fill_no_memory(tmp_path):
    """A file of starts, stops and calls for a reply is read to its end, and nothing of them is kept."""
    path = tmp_path / "x.fstrm"
    path.write_bytes((START + STOP) * 50_000 + control_frame(READY) * 100_000)
    tracemalloc.start()
    try:
        with closing(CaptureReader(path)) as reader:
            while reader.read() is not None:
                pass
            assert reader.damage == ""
        assert tracemalloc.get_traced_memory()[1] < 1 << 20  # the replies have six times as much
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("case", OTHERS)
def test_other_files_are_refused(read, case):
    """A file that is no capture is refused, and the error describes the file."""
    data, text = OTHERS[case]
    with pytest.raises(CaptureError, match=text):
        read(data)


@pytest.mark.parametrize("name", ["missing.pcap", "", "a\0b"], ids=["missing", "a folder", "no path"])
def test_a_path_that_cannot_be_read_is_refused(tmp_path, name):
    """A path without a readable file is a CaptureError."""
    with pytest.raises(CaptureError, match="cannot be read"):
        CaptureReader(f"{tmp_path}/{name}")


def test_a_pipe_is_read_as_it_comes():
    """A pipe gives each packet once it is complete, [] in between, and ends with its writer."""
    data = pcap((1, 0, b"first"), (2, 0, b"second"))
    out, into = os.pipe()
    os.write(into, data[:50])
    reader = CaptureReader(f"/dev/fd/{out}")
    assert reader.read(0) == [(SECOND, 1, b"first")]
    assert reader.read(0) == []
    os.write(into, data[50:])
    assert reader.read(0) == [(2 * SECOND, 1, b"second")]
    os.close(into)
    assert reader.read() is None
    reader.close()
    os.close(out)


def test_a_closed_reader_is_at_its_end(tmp_path):
    """A closed reader is at its end, and can be closed again."""
    (tmp_path / "x").write_bytes(WHOLE["pcap"])
    reader = CaptureReader(tmp_path / "x")
    reader.close()
    reader.close()
    assert reader.read() is None


STARTS = [
    WHOLE["pcap"][:4],
    pcap(order=">"),
    pcap(magic=NANO),
    pcap(magic=MODIFIED),
    section()[:12],
    section(),
    ONE,
    START,
    TAPPED,
]


@given(start=st.sampled_from([*STARTS, section(">"), b"\x1f\x8b\x08"]), rest=st.binary(max_size=300))
def test_any_bytes_behind_a_magic(read, start, rest):
    """Arbitrary bytes after the magic of a capture give packets, an error or both, and the reading ends."""
    assert_read(read, start + rest)


@given(data=st.data(), whole=st.sampled_from([*WHOLE.values(), *map(gzip.compress, WHOLE.values())]))
def test_any_mutation_of_a_capture(read, data, whole):
    """A capture with changed bytes and a cut end gives packets, an error or both, and the reading ends."""
    mutated = bytearray(whole)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=5)):
        mutated[place] = data.draw(st.integers(0, 255))
    assert_read(read, bytes(mutated[: data.draw(st.integers(0, len(whole)))]))


def assert_read(read, data):
    try:
        packets, damage = read(data)
    except CaptureError:
        return
    assert all(len(frame) <= max(len(data), 300) for _, _, frame in packets)
    assert damage in ("", CUT_SHORT, DAMAGED)
