"""Tests of dnstrail_cli.enrich.lines."""

from __future__ import annotations

import os

import pytest

from dnstrail_cli.enrich import lines
from dnstrail_cli.enrich.lines import LONGEST, LineReader


def read_all(tmp_path, *contents):
    """Return the pieces that are read from files with these contents."""
    descriptors = []
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
        descriptors.append(os.open(tmp_path / str(number), os.O_RDONLY))
    reader, found = LineReader(descriptors), []
    while not reader.ended:
        found += reader.read(0)
    for descriptor in descriptors:
        os.close(descriptor)
    return found


@pytest.mark.parametrize("at_once", [1, 2, 7, 1 << 18])
def test_lines_arrive_whole_in_their_order(tmp_path, monkeypatch, at_once):
    """Lines keep their bytes, whatever a read returns; the last line of a file stays apart from the next file."""
    monkeypatch.setattr(lines, "_AT_ONCE", at_once)
    found = read_all(tmp_path, b"a\r\n\nbc", b"d\n", b"", b"e")
    assert [piece.raw for piece in found] == [b"a\r\n", b"\n", b"bc\n", b"d\n", b"e"]
    assert all(piece.whole for piece in found)


@pytest.mark.parametrize("end", [b"", b"\n", b"\nnext\n"])
@pytest.mark.parametrize("length", [LONGEST, LONGEST + 2, 3 * LONGEST])
def test_a_line_beyond_the_bound_passes_in_pieces(tmp_path, length, end):
    """A line beyond 1 MiB arrives in pieces, one of them its first; the next line is whole."""
    found = read_all(tmp_path, b"x" * length + end)
    assert b"".join(piece.raw for piece in found) == b"x" * length + end
    assert sum(not piece.whole and piece.first for piece in found) == (length > LONGEST)
    assert max(len(piece.raw) for piece in found) <= LONGEST + (1 << 18) + 1
    assert (b"next\n" in [piece.raw for piece in found if piece.whole]) == end.endswith(b"next\n")


def test_a_long_line_at_the_end_of_a_file_ends_with_it(tmp_path):
    """The first line of the next file is none of its pieces."""
    found = read_all(tmp_path, b"x" * (2 * LONGEST), b"y\n")
    assert found[-1].raw == b"y\n"
    assert found[-1].whole
