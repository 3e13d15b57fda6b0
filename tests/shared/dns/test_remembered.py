"""The tables of the decoder: the questions, targets and lives that it remembers."""

from __future__ import annotations

from typing import Any

import pytest

from builders.dns_builders import CNAME, asked, by_hand, record, response_to, wire
from builders.hostile import P
from dnstrail.dns import header
from dnstrail.dns.header import read_header
from dnstrail.dns.tables import Recent
from dnstrail.errors import BadMessage
from dnstrail.image import relate
from dnstrail.image.relate import relate_usual

TABLES: dict[str, tuple[Recent[Any, Any], int]] = {
    "questions": (header._known, header._QUESTIONS),
    "targets": (header._targets, header._TARGETS),
    "lives": (relate._known_lives, relate._LIVES),
}


def test_tables_of_the_decoder_are_bounded() -> None:
    """Endless fresh names and TTLs fill both halves of each table, and are read as before."""
    most = dict.fromkeys(TABLES, 0)
    for number in range(3 * max(bound for _, bound in TABLES.values()) + 2):
        payload = response_to(f"q{number}.example", f"q{number}.example CNAME t{number}.example", ttl=number)
        answer = relate_usual(payload, read_header(payload), 10)
        assert answer is not None
        assert answer.edges == ((f"q{number}.example", 5, f"t{number}.example"),)
        most = {name: max(most[name], len(table)) for name, (table, _) in TABLES.items()}
    assert most == {name: 2 * bound for name, (_, bound) in TABLES.items()}


@pytest.mark.parametrize("labels", [b"\x01a" * 200, b"\x3f" + b"a" * 63, wire("1.1.1.1")[:-1]])
def test_labels_that_make_no_target_are_not_remembered(labels: bytes) -> None:
    """Labels of any length may lead nowhere; the table does not hold them."""
    payload = by_hand(asked(wire("q.example")), record(P, CNAME, labels + b"\x00"))
    assert relate_usual(payload, read_header(payload), 10) is None
    assert header._targets.get((labels, "")) is None


def test_a_name_too_long_is_no_remembered_question() -> None:
    """A question is remembered only if its name fits a message."""
    payload = by_hand(asked(b"\x01a" * 127 + b"\x00"))
    read_header(payload)
    longer = by_hand(asked(b"\x01a" * 128 + b"\x00"))
    with pytest.raises(BadMessage):
        read_header(longer)
    assert header._known.get(payload[12:]) is not None
    assert header._known.get(longer[12:]) is None
