from __future__ import annotations

import sqlite3
from contextlib import closing, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnstrail_probe.formats.sqlite_records import last_columns

KEY = "0123456789abcdef" * 3 + "fedcba9876543210"
MOST = 1 << 20
# Lengths at the bounds of a leaf, of the first page of a chain, and of several pages.
LENGTHS = st.one_of(st.integers(0, 6000), st.integers(0, 200_000))
OTHERS = st.dictionaries(st.text("0123456789abcdef", min_size=64, max_size=64), LENGTHS, max_size=20)


def database(page: int, rows: list[tuple[object, ...]], deleted: tuple[str, ...] = ()) -> bytes:
    """Return the bytes of a database with a table of these rows, of which some were deleted."""
    with closing(sqlite3.connect(":memory:")) as opened:
        opened.execute(f"PRAGMA page_size = {page}")
        opened.execute("CREATE TABLE state (id TEXT PRIMARY KEY, state INTEGER, code INTEGER, json TEXT)")
        opened.execute("CREATE TABLE config (id TEXT PRIMARY KEY, name TEXT UNIQUE, pod TEXT, json)")
        for row in rows:
            opened.execute("INSERT INTO state VALUES (?, 1, 0, 'x')", row[:1])
            opened.execute("INSERT INTO config VALUES (?, ?, ?, ?)", row)
        for key in deleted:
            opened.execute("DELETE FROM config WHERE id = ?", (key,))
        opened.commit()
        return opened.serialize()


@given(
    page=st.sampled_from([1024 << bits for bits in range(7)]),
    length=LENGTHS,
    name=st.text(st.characters(codec="utf-8"), max_size=300),
    pod=st.none() | st.just("e" * 64),
    others=OTHERS,
    data=st.data(),
)
def test_the_record_is_the_one_that_sqlite_wrote(page, length, name, pod, others, data):
    """A text or blob of any length is found among other rows, and after some of them were deleted."""
    last = data.draw(st.sampled_from(["\xe9" * length, b"\0" * length]))
    rows = [(key, f"{name}{key}", None, KEY + "y" * size) for key, size in others.items() if key != KEY]
    rows.insert(data.draw(st.integers(0, len(rows))), (KEY, name, pod, last))
    content = database(page, rows, tuple(row[0] for row in rows[::2] if row[0] != KEY))
    expected = last.encode() if isinstance(last, str) else last
    assert not length or expected in last_columns(content, KEY.encode(), MOST)
    assert not [*last_columns(content, b"e" * 64, MOST)]


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), max_size=20), st.integers(0, 20_000))
def test_damaged_bytes_raise_nothing_but_the_stated_error(damage, cut):
    """Any change of the bytes gives other records, or none, or the stated error."""
    content = bytearray(database(1024, [(KEY, "web", None, "y" * 9000), ("f" * 64, "db", None, "z" * 3000)]))
    for place, byte in damage:
        content[place % len(content)] = byte
    with suppress(ValueError):
        assert sum(map(len, last_columns(bytes(content[: len(content) - cut]), KEY.encode(), MOST))) <= 8 * MOST


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"SQLite format 3\0",
        b"x" * 5000,
        b"SQLite format 3\0" + bytes(5000),
        b"SQLite format 3\0\x02" * 99,
        database(512, []),
    ],
)
def test_bytes_that_are_no_database_are_refused(content):
    """Bytes without the header, or with impossible sizes of pages, are no database."""
    with pytest.raises(ValueError, match="no database"):
        next(last_columns(content, KEY.encode(), MOST))


def record(length: int) -> bytes:
    """Return the beginning of a record whose last column has so many bytes."""
    serial = 12 + 2 * length
    last = bytes((serial >> shift & 0x7F | (0x80 if shift else 0)) for shift in (28, 21, 14, 7, 0))
    return bytes((10, 0x81, 13, 15, 0, *last)) + KEY.encode() + b"w"


def test_a_chain_of_pages_in_a_circle_ends():
    """A chain that leads back to itself ends with the length of the record, which is bounded."""
    content = database(1024, [(KEY, "web", None, "y" * 100_000)])
    pages = [content[at : at + 1024] for at in range(0, len(content), 1024)]
    circles = [page if page[:3] != b"\0\0\0" else number.to_bytes(4) + page[4:] for number, page in enumerate(pages, 1)]
    assert circles != pages
    [found] = last_columns(b"".join(circles), KEY.encode(), MOST)
    assert found == b"y" * 100_000
    assert not [*last_columns(b"".join(circles), KEY.encode(), 100_000)]


def test_the_records_that_are_read_are_bounded():
    """Of a key that occurs a thousand times, eight records are read, and not more than a thousand places looked at."""
    header = database(1024, [])[:100]
    many = (header + record(9) + b"123456789") + (record(9) + b"123456789") * 2000
    assert len([*last_columns(many, KEY.encode(), MOST)]) == 8
    behind = (header + KEY.encode() * 1000).ljust(1 << 17, b"\0") + record(9) + b"123456789"
    assert not [*last_columns(behind, KEY.encode(), MOST)]
    assert len([*last_columns(behind.replace(KEY.encode(), b"", 1), KEY.encode(), MOST)]) == 1
