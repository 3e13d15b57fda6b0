"""The line that would allow a refusal, and the entry that comes nearest to it."""

from __future__ import annotations

import pytest

from dnstrail_run.advice import NearestEntries, allowing_line, asked_line
from dnstrail_run.allow_list import parse_allow_list
from dnstrail_run.enforce.refusals import ASK, BIND, REACH, SOCKET, STATE
from dnstrail_run.report import Program, Refusal

LIST = parse_allow_list(
    "api.example.com:443\n*.example.com:80\nwww.example.org\nb.co.uk\n10.0.0.0/8:22\n10.1.0.0/16\n[fd00::1]:1,2\n"
)


def refusal(action: str, name: str = "", address: str = "", port: int = 0, **fields: str) -> Refusal:
    return Refusal(action, name, address, port, "tcp", Program(7, "app", ""), 1, **fields)


@pytest.mark.parametrize(
    ("refused", "line"),
    [
        (refusal(ASK, "a.example", "192.0.2.53", 53, reason="name", type="A"), "a.example"),
        (refusal(ASK, "a.example", "192.0.2.53", 53, reason="type", type="TXT"), "a.example TXT"),
        (refusal(ASK, "a.example", "192.0.2.53", 53, reason="resolver"), "a.example resolver 192.0.2.53"),
        (refusal(ASK, "resolver", "192.0.2.53", 53, reason="type", type="TXT"), "resolver. TXT"),
        (refusal(ASK, "include", "192.0.2.53", 53, reason="resolver"), "include. resolver 192.0.2.53"),
        (refusal(ASK, "resolver", "192.0.2.53", 53, reason="name", type="A"), "resolver"),
        (refusal(ASK, "a.example", "192.0.2.53", 53, reason="unreadable"), ""),
        (refusal(ASK, "a b\n*.example", "192.0.2.53", 53, reason="name"), ""),
        (refusal(REACH, "", "192.0.2.1", 443), "192.0.2.1:443"),
        (refusal(REACH, "", "2001:db8::1", 443), "[2001:db8::1]:443"),
        (refusal(REACH, "", "192.0.2.1", 0), "192.0.2.1"),
        (refusal(REACH, "", "2001:db8::1", 53), "resolver 2001:db8::1"),
        (refusal(STATE, "a.example", "192.0.2.1", 443, reason="other"), "a.example:443"),
        (refusal(STATE, "a.example", "192.0.2.1", 22, reason="unstated"), "a.example:22 unchecked"),
        (refusal(STATE, "", "192.0.2.1", 22, reason="unstated"), "192.0.2.1:22"),
        (refusal(STATE, "a b\n*", "192.0.2.1", 443, reason="other"), ""),
        (refusal(BIND, "", "0.0.0.0", 53), ""),
        (refusal(SOCKET), ""),
    ],
)
def test_the_line_that_would_allow_it(refused, line):
    """The line allows exactly this attempt; what no list allows has none, and no name makes two lines."""
    assert allowing_line(refused) == line
    if line:
        allowed = parse_allow_list(line)
        assert allowed.allows_name(refused.name) or allowed.allows("", refused.address, refused.port)


@pytest.mark.parametrize(
    ("refused", "entry"),
    [
        (refusal(ASK, "api.example.com"), "api.example.com:443"),
        (refusal(ASK, "x.api.example.com"), "api.example.com:443"),
        (refusal(ASK, "example.com"), "*.example.com:80"),
        (refusal(ASK, "ftp.example.org"), "www.example.org"),
        (refusal(ASK, "a.co.uk"), "b.co.uk"),
        (refusal(ASK, "example.net"), ""),
        (refusal(ASK, "com"), ""),
        (refusal(REACH, "", "10.1.2.3", 80), "10.1.0.0/16"),
        (refusal(REACH, "", "10.2.2.3", 80), "10.0.0.0/8:22"),
        (refusal(REACH, "", "fd00::1", 80), "[fd00::1]:1,2"),
        (refusal(REACH, "", "192.0.2.1", 80), ""),
        (refusal(SOCKET), ""),
    ],
)
def test_the_nearest_entry(refused, entry):
    """A name is nearest to the entry with the longest common end, an address to the smallest network around it."""
    assert NearestEntries(LIST).of(refused) == entry


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("new.example", "AAAA", "new.example"),
        ("new.example", "TXT", "new.example TXT"),
        ("www.example.org", "TXT", "www.example.org TXT"),
        ("api.example.com", "SRV", "api.example.com:80,443 SRV"),
        ("corp.test", "MX", "corp.test MX resolver 10.0.0.53"),
        ("resolver", "TXT", "resolver. TXT"),
        ("new.example", "TYPE62", ""),
        ("new.example", "CAA", ""),
        ("a b\n*.example", "A", ""),
        ("", "", ""),
    ],
)
def test_the_line_for_a_question(name, kind, line):
    """It allows the type, and keeps the ports and resolvers that the name has; nothing else can be a line."""
    allowed = parse_allow_list("api.example.com:443\n*.example.com:80\nwww.example.org\ncorp.test resolver 10.0.0.53\n")
    assert asked_line(refusal(ASK, name, "192.0.2.53", 53, type=kind), allowed) == line
