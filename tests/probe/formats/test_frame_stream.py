from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.dnstap_builders import ACCEPT, FINISH, READY, START, STOP, framed
from dnstrail_probe.formats.frame_stream import LARGEST_FRAME, FrameStream

OTHER = struct.pack("!IIIII", 0, 15, 2, 1, 3) + b"xyz"


def read(data: bytes) -> tuple[list[bytes], bool]:
    """Return the frames in a stream, and whether it is valid to its end."""
    frames: list[bytes] = []
    try:
        used, _ = FrameStream().split(data, frames)
    except struct.error:
        return frames, False
    return frames, used == len(data)


def test_a_file_is_its_frames():
    """The frames between START and STOP are read in their order."""
    assert read(START + framed(b"one", b"two") + STOP) == ([b"one", b"two"], True)


def test_files_behind_each_other_are_one():
    """Another START may follow a STOP, as in concatenated files."""
    assert read(START + framed(b"one") + STOP + START + framed(b"two") + STOP) == ([b"one", b"two"], True)


def test_a_writer_is_answered():
    """READY is answered with ACCEPT and STOP with FINISH, each once."""
    stream = FrameStream()
    stream.split(READY, [])
    assert (stream.take_reply(), stream.take_reply()) == (ACCEPT, b"")
    stream.split(START, [])
    assert (stream.take_reply(), stream.ended) == (b"", False)
    stream.split(STOP, [])
    assert (stream.take_reply(), stream.ended) == (FINISH, True)


def test_ready_may_offer_several_contents():
    """A writer that offers dnstap among other contents is asked for dnstap."""
    fields = b"".join(struct.pack("!II", 1, len(kind)) + kind for kind in (b"xyz", READY[20:]))
    stream = FrameStream()
    stream.split(struct.pack("!III", 0, 4 + len(fields), 4) + fields, [])
    assert stream.take_reply() == ACCEPT


def test_unknown_control_frames_and_fields_are_skipped():
    """Unknown control frames and fields change nothing."""
    later = struct.pack("!III", 0, 4, 6)
    field = struct.pack("!III", 0, 14, 2) + struct.pack("!II", 9, 2) + b"ab"
    assert read(field + later + framed(b"one")) == ([b"one"], True)


HOSTILE = {
    "a frame before START": framed(b"one"),
    "a frame before START, behind READY": READY + framed(b"one"),
    "a frame behind STOP": START + STOP + framed(b"one"),
    "a frame past the limit": START + struct.pack("!I", LARGEST_FRAME + 1),
    "a frame of 4 GiB": START + struct.pack("!I", 0xFFFFFFFF),
    "a control frame past the limit": struct.pack("!II", 0, LARGEST_FRAME + 1),
    "a control frame of nothing": struct.pack("!II", 0, 0),
    "a control frame of 3 bytes": struct.pack("!II", 0, 3) + b"abc",
    "START of other content": OTHER,
    "READY of other content": OTHER[:11] + b"\x04" + OTHER[12:],
    "START twice": START + START,
    "READY behind START": START + READY,
    "STOP before START": STOP,
    "a control frame of readers": START + ACCEPT,
    "kind 0": struct.pack("!III", 0, 4, 0),
    "a field larger than its frame": struct.pack("!IIIII", 0, 12, 2, 1, 22),
    "a field cut in its head": struct.pack("!IIII", 0, 8, 2, 1),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_an_invalid_stream_ends(case):
    """Nothing is read from the place on where a stream is invalid, and the error is raised."""
    assert read(HOSTILE[case]) == ([], False)


def test_frames_before_the_damage_count():
    """The frames before the damage are returned."""
    assert read(START + framed(b"one") + START) == ([b"one"], False)


@given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(1, 50))
def test_pieces_of_any_size_give_the_same(bodies, size):
    """A stream in pieces gives the same frames, and never waits for more than its next frame."""
    data, buffer, frames, stream = START + framed(*bodies) + STOP, b"", [], FrameStream()
    for at in range(0, len(data), size):
        buffer += data[at : at + size]
        used, need = stream.split(buffer, frames)
        buffer = buffer[used:]
        assert len(buffer) < need
    assert (frames, buffer, stream.ended) == (bodies, b"", True)


PIECES = [START, STOP, READY, ACCEPT, FINISH, OTHER, bytes(4), b"\xff\xff\xff\xff", framed(b"one")]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=40)), max_size=10))
def test_arbitrary_bytes_end(pieces):
    """Arbitrary bytes give frames, an error or both; the need and the reply stay within bounds."""
    data, frames, stream = b"".join(pieces), [], FrameStream()
    try:
        used, need = stream.split(data, frames)
    except struct.error:
        used, need = len(data), 0
    assert sum(map(len, frames)) <= used <= len(data)
    assert need <= LARGEST_FRAME + 8
    assert len(stream.take_reply()) <= 3 * len(data)
