"""The outcome of a response, by its records."""

from __future__ import annotations

import pytest

from builders.dns_builders import A, asked, by_hand, record, response_to, wire
from dnstrail.dns.header import read_header
from dnstrail.image.answer import Answer
from dnstrail.image.facts.outcome import read_outcome
from dnstrail.image.relate import read_answer


def outcome(payload: bytes) -> str:
    """Return the outcome of a response that the image read."""
    header = read_header(payload)
    answer = read_answer(payload, header, None, {"foreign_record": 0, "bad_record": 0, "cut_short": 0}, 4096)
    return read_outcome(header, payload, answer)


@pytest.mark.parametrize(
    ("question", "lines", "expected"),
    [
        ("a", ["a A 192.0.2.1"], "answered"),
        ("a", ["b A 192.0.2.1", "a CNAME b"], "answered"),
        ("a", ["a CNAME b"], "no_data"),
        ("a", ["a CNAME b", "b CNAME a"], "no_data"),
        ("a", ["b A 192.0.2.1"], "no_data"),
        ("a AAAA", ["a A 192.0.2.1"], "no_data"),
        ("a", [], "no_data"),
        ("a TXT", ['a TXT "words"'], "answered"),
        ("a TXT", ["a CNAME b", 'b TXT "words"'], "answered"),
        ("a TXT", ['b TXT "words"'], "no_data"),
        ("a ANY", ['a TXT "words"'], "answered"),
        ("a AXFR", ['b.a TXT "words"', 'a TXT "words"'], "answered"),
        ("a IXFR", ['a TXT "words"'], "answered"),
        ("a CNAME", ["a CNAME b"], "answered"),
        ("a MX", ["a MX 0 ."], "answered"),
        ("a HTTPS", ["a HTTPS 1 . alpn=h2"], "answered"),
        ("1.2.0.192.in-addr.arpa PTR", ["1.2.0.192.in-addr.arpa PTR a"], "answered"),
        ("_http._tcp.a PTR", ["_http._tcp.a PTR b"], "answered"),
    ],
)
def test_the_records_decide(question, lines, expected):
    """A response is an answer if a record of the asked type stands at the end of the chain of its aliases."""
    assert outcome(response_to(question, *lines)) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(3, "nxdomain"), (5, "refused"), (2, "failed"), (4, "failed"), (0x0200, "truncated"), (0x0203, "truncated")],
)
@pytest.mark.parametrize("lines", [[], ["a CNAME b"]])
def test_the_header_decides(flags, expected, lines):
    """An error and a truncated response are what the header states, whatever the records are."""
    assert outcome(response_to("a", *lines, flags=flags)) == expected


@pytest.mark.parametrize("rdata", [b"\xc0\x00\x02", b""])
def test_a_bad_record_is_no_answer(rdata):
    """A record with bad RDATA, and one that is cut short, answer nothing."""
    payload = by_hand(asked(wire("a")), record(wire("a"), A, rdata))
    assert outcome(payload) == "no_data"
    assert outcome(payload[:-4]) == "no_data"


def test_records_that_nobody_read():
    """The outcome of unread records is unknown, that of an error is not."""
    payload = response_to("a", "a A 192.0.2.1")
    assert read_outcome(read_header(payload), payload, None) == "unknown"
    payload = response_to("a", "a CNAME b", flags=3)
    assert read_outcome(read_header(payload), payload, None) == "nxdomain"
    assert read_outcome(read_header(payload), payload, Answer("a")) == "nxdomain"
