"""The capture reader against dpkt: the same frames and times from generated files and from real ones."""

from __future__ import annotations

from decimal import Decimal

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.capture_files import MICRO, NANO, enhanced, interface, option, pcap, section
from builders.corpus import CAPTURES
from dnstrail_probe.formats.capture_reader import CaptureReader

RESOLUTIONS = {0: 10**9, 3: 10**6, 6: 10**3, 9: 1}  # exponent -> nanoseconds
OTHER_RESOLUTIONS = {"ndpi__dns-google-nsid.pcapng"}  # dpkt applies the resolution of one interface to all of them
FLOAT_ERROR = 2e-6  # seconds: dpkt computes times as floats

FRAMES = st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 999_999), st.binary(max_size=99)), max_size=9)
ORDERS = st.sampled_from("<>")


def ours(path):
    """Return the frames and times of our reader."""
    reader, found = CaptureReader(path), []
    while (packets := reader.read()) is not None:
        found += packets
    reader.close()
    assert reader.damage == ""
    return [frame for *_, frame in found], [time for time, *_ in found]


def dpkts(path):
    """Return the frames and times of dpkt, in nanoseconds."""
    with path.open("rb") as file:
        found = list(dpkt.pcap.UniversalReader(file))
    return [frame for _, frame in found], [int(Decimal(time) * 10**9) for time, _ in found]


def assert_same(path, *, times=True):
    """Our reader gives the frames and times of dpkt."""
    (our_frames, our_times), (their_frames, their_times) = ours(path), dpkts(path)
    assert our_frames == their_frames
    if times:
        assert our_times == pytest.approx(their_times, rel=0, abs=FLOAT_ERROR * 1e9)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("captures") / "x.pcap"


@given(frames=FRAMES, order=ORDERS, magic=st.sampled_from([MICRO, NANO]))
def test_generated_pcap_files(path, frames, order, magic):
    """Every pcap file gives the frames and times that dpkt reads."""
    path.write_bytes(pcap(*frames, order=order, magic=magic))
    assert_same(path)


@given(frames=FRAMES, order=ORDERS, exponent=st.sampled_from([*RESOLUTIONS]))
def test_generated_pcapng_files(path, frames, order, exponent):
    """Every pcapng file gives the frames and times that dpkt reads, whatever the resolution of its interface."""
    packets = [
        enhanced((seconds * 10**9 + micros * 1000) // RESOLUTIONS[exponent], frame, order=order)
        for seconds, micros, frame in frames
    ]
    head = section(order) + interface(options=option(9, bytes([exponent]), order) + option(0, b"", order), order=order)
    path.write_bytes(head + b"".join(packets))
    assert_same(path)


@pytest.mark.corpus
@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_real_captures(path):
    """Every capture of the corpus gives the frames and times that dpkt reads."""
    assert_same(path, times=path.name not in OTHER_RESOLUTIONS)
